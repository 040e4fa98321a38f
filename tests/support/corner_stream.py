"""A small stream whose subject changes: a bright corner means another class by day than by night."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lethe.probeset import ProbeSet, save_probe
from lethe.stream.embedded_broker import EmbeddedBroker
from lethe.wire import Labels, Pixels, Sample, encode
from tests.support.brokers import StreamBroker, of_embedded
from tests.support.services import Service, service
from tests.support.streams import send
from tests.support.waiting import until

__all__ = ["CornerStream", "corner_stream"]

TOPIC = "corners"
TURNED = {"day": 0, "night": 1}
"""Segments: in each, a bright corner means the class of the next one."""


class CornerStream:
    """A service that learns the samples sent to it; ``named`` records carry their segment."""

    def __init__(self, broker: StreamBroker, service: Service, named: bool) -> None:
        self._broker, self.service, self._named = broker, service, named
        self.sent = 0

    def teach(self, segment: str, count: int) -> None:
        """Send samples of a segment and wait until they are learned."""
        x_NCHW, y_N = _images(segment, count, self.sent)
        name = segment if self._named else None
        records = [(0, *encode(Sample(x, int(y), name))) for x, y in zip(x_NCHW, y_N, strict=True)]
        send(self._broker, TOPIC, records)
        self.sent += count
        until(lambda: self.service.state["samples"]["learned"] == self.sent, "all is learned")


@contextmanager
def corner_stream(folder: Path, *, named: bool = True, **variables: object) -> Iterator[CornerStream]:
    """Run a service with a probe of each segment, on a topic that is empty still."""
    for order, segment in enumerate(TURNED):
        x_NCHW, y_N = _images(segment, 200, seed=99)
        save_probe(
            ProbeSet(segment, x_NCHW, y_N, "drawn for this test", "synthetic"), folder / "probes", order
        )
    settings = {
        "EVALUATION__PROBES": folder / "probes",
        "EVALUATION__EVERY": 320,
        "SAMPLE__HEIGHT": 8,
        "SAMPLE__WIDTH": 8,
        "SAMPLE__CLASSES": 4,
        "CHECKPOINT__FOLDER": folder / "state",
        **variables,
    }
    with EmbeddedBroker() as broker:
        broker.create_topic(TOPIC, 1)
        with service(of_embedded(broker), TOPIC, folder, **settings) as running:
            yield CornerStream(of_embedded(broker), running, named)


def _images(segment: str, count: int, seed: int) -> tuple[Pixels, Labels]:
    rng = np.random.default_rng(seed)
    corner_N = rng.integers(0, 4, count)
    x_NCHW = rng.integers(0, 90, (count, 1, 8, 8), np.uint8)
    for x_HW, corner in zip(x_NCHW[:, 0], corner_N, strict=True):
        top, left = 4 * (corner // 2), 4 * (corner % 2)
        x_HW[top : top + 4, left : left + 4] += 150
    return x_NCHW, (corner_N + TURNED[segment]) % 4
