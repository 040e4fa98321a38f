"""Segments in memory: forms in which ``lethe.run`` takes them, and the same segments in a topic."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import lethe
from lethe.learners.state import JSON
from lethe.stream.embedded_broker import EmbeddedBroker
from lethe.wire import Sample, encode
from tests.support.brokers import of_embedded
from tests.support.streams import Outgoing, send, settings_of

__all__ = ["Arrays", "as_iterator", "as_tensors", "assert_same_run", "run_from_topic"]

Arrays = tuple[npt.NDArray[Any], npt.NDArray[Any]]
"""Samples and their labels."""


def as_tensors(arrays: Arrays) -> Any:
    return torch.from_numpy(arrays[0]), torch.from_numpy(arrays[1])


def as_iterator(arrays: Arrays) -> Any:
    return zip(*arrays, strict=True)


def assert_same_run(run: lethe.Run, expected: lethe.Run) -> None:
    """Fail unless both have the same R and the same weights, to the last bit."""
    np.testing.assert_array_equal(run.R, expected.R)
    assert run.learner is not None
    assert expected.learner is not None
    weights = run.learner.state().tensors
    for name, tensor in expected.learner.state().tensors.items():
        assert torch.equal(weights[name], tensor), name


def run_from_topic(
    embedded_broker: EmbeddedBroker,
    topic: str,
    segments: Mapping[str, Arrays],
    probes: Mapping[str, Arrays],
    options: Mapping[str, JSON],
    **more: Any,
) -> lethe.Run:
    """Send the segments to a new topic, and let ``finetune`` learn it.

    Samples are as records hold them: images [N, C, H, W], vectors [N, F].
    """
    embedded_broker.create_topic(topic, 1)
    broker = of_embedded(embedded_broker)
    records: list[Outgoing] = [
        (0, *encode(Sample(x, int(y), name)))
        for name, arrays in segments.items()
        for x, y in zip(*arrays, strict=True)
    ]
    send(broker, topic, records)
    return lethe.run_topic(
        "finetune",
        topic,
        probes,
        bootstrap_servers=embedded_broker.bootstrap_servers,
        samples=len(records),
        options=options,
        settings={"stream": {"api_version": settings_of(broker, topic).api_version}},
        **more,
    )
