"""Trains a learner across a switch, as a service does, and records its path.

Shapes: P recorded points, V weights, N images.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Final

import torch
from torch import Tensor

from lethe.drift.detector import BoundaryDetector
from lethe.evaluation.history import History
from lethe.events import BoundaryDetected, Event
from lethe.experiments.anatomy.study import Study
from lethe.ingest.feed import Batch
from lethe.ingest.memory_feed import MemoryFeed, decode_all
from lethe.learners.base import Learner
from lethe.runtime.step import TrainingStep
from lethe.settings import BatchSettings
from lethe_producers.order import Order
from lethe_producers.records import Records

__all__ = ["Path", "Point", "due", "segment_batches", "train"]

EVEN: Final = 16
"""Points spread evenly over a segment, besides those that double from its first batch on."""


@dataclass(frozen=True, slots=True)
class Point:
    """A learner at one moment: what `see` of `train` returned."""

    samples: int
    vector_V: Tensor | None
    predicted_N: Tensor
    solved: Mapping[str, Tensor] = field(default_factory=dict)
    """The weights that a learner on fixed features solved for, by name."""


@dataclass(slots=True)
class Path:
    """The recorded points, from before the old segment to the end of the new one."""

    points: list[Point] = field(default_factory=list)
    switch: int = 0
    """Index of the point at the switch."""
    detected: list[int] = field(default_factory=list)
    """Samples learned when a boundary was detected."""
    _points_PV: Tensor | None = None

    def weights(self) -> Tensor:
        """Return the weights at each point, [P, V], once the path is complete.

        Raises ValueError for a learner without such a vector.
        """
        if self._points_PV is None:
            vectors = [point.vector_V for point in self.points if point.vector_V is not None]
            if len(vectors) != len(self.points):
                raise ValueError("the learner has no vector of weights")
            self._points_PV = torch.stack(vectors)
            self.points = [replace(point, vector_V=None) for point in self.points]  # not kept twice
        return self._points_PV

    def predictions(self) -> Tensor:
        """Return the predictions on the old probe at each point, int64 [P, N]."""
        return torch.stack([point.predicted_N for point in self.points])


def due(length: int, batch: int) -> list[int]:
    """Return after how many samples of a segment a point is recorded: denser at its beginning."""
    batches = -(-length // batch)
    doubling = {1 << power for power in range(batches.bit_length())}
    even = {round(batches * place / EVEN) for place in range(1, EVEN + 1)}
    return [min(length, count * batch) for count in sorted(doubling | even) if 0 < count <= batches]


def train(
    learner: Learner,
    study: Study,
    seed: int,
    see: Callable[[Learner, int], Point],
    tick: Callable[[int], None] = lambda _: None,
) -> Path:
    """Learn the scenario up to the end of the new segment and return the path.

    Steps, batches and detected boundaries are those of a service, but no batch reaches across a switch, so
    that the point at the switch has seen nothing new. ``see`` is called with the learner and the number of
    samples learned, ``tick`` with the number of samples of each batch.

    Raises DivergedLoss; DataUnavailable if a data set is not on this machine.
    """
    order = Order(study.scenario, seed, study.samples)
    records = Records(order, study.root)
    path = Path()
    history = History([])

    def emit(event: Event) -> None:
        if isinstance(event, BoundaryDetected):
            path.detected.append(event.samples)

    step = TrainingStep(learner, history, emit, BoundaryDetector())
    ends = list(accumulate(order.lengths[: study.switch + 1]))
    for visit, (begin, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True), start=1):
        if visit == study.switch:
            path.points.append(see(learner, history.samples))
        wanted = due(end - begin, learner.batch_size)
        done = 0
        for batch in segment_batches(records, begin, end, learner.batch_size):
            if batch.filled.samples:
                step(batch)
            batch.discard()
            done += batch.filled.received
            tick(batch.filled.received)
            if visit >= study.switch and done >= wanted[0]:
                path.points.append(see(learner, history.samples))
                wanted = [count for count in wanted if count > done]
        if visit == study.switch:
            path.switch = len(path.points) - 1
    return path


def segment_batches(records: Records, begin: int, end: int, size: int) -> Iterator[Batch]:
    """Yield the batches of one segment; the last one may be incomplete."""
    settings = BatchSettings(size=size, slots=2)
    layout = records.order.scenario.layout
    encoded = map(records.at, range(begin, end))
    feed = MemoryFeed(decode_all(encoded, segments=False, layout=layout), end - begin, settings, layout)
    for message in iter(lambda: feed.next(0), None):
        if not isinstance(message, Batch) or not message.filled.received:
            return
        yield message
