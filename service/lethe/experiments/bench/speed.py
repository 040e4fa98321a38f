"""Compares the speed of learners, from memory, with that of a bare PyTorch loop.

The bare loop trains the reference network, small-cnn, as a PyTorch user would: batches of 64, Adam, nothing
else. A learner's side is the loop of the service without Kafka: it predicts each batch, learns it, solves
when that is due, and looks for boundaries. Each turn has every side, in random order, so that load on the
machine, and what one side leaves behind for the next, slow down all alike.

Shapes: N images, C channels, H height, W width, B batch.
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from statistics import quantiles
from typing import Any, Final

import torch
from rich.table import Table
from torch import nn

from lethe.drift.detector import BoundaryDetector
from lethe.evaluation.history import History
from lethe.events import BatchLearned, Event
from lethe.experiments.bench.pipeline import NEVER, noise_images
from lethe.experiments.bench.random_orders import random_orders
from lethe.ingest.memory_feed import MemoryFeed
from lethe.learners.base import Learner
from lethe.learners.gradient.backbones import as_floats, build
from lethe.runtime.factories import create_learner
from lethe.runtime.loop import Loop
from lethe.settings import BatchSettings, LearnerSettings
from lethe.wire import Labels, Layout, Pixels, Sample

__all__ = ["BARE", "Side", "SpeedBench", "Speeds", "bench_speed", "speeds_table"]

Side = Callable[[Pixels, Labels], float]
"""Learns a turn's images, and returns the seconds that took."""
BARE: Final = "bare"
"""The name of the bare loop."""
_BARE_BATCH: Final = 64


@dataclass(frozen=True)
class SpeedBench:
    """Options of the benchmark."""

    learners: Sequence[str] = ("finetune", "ridge", "experts")
    threads: int = 2
    samples: int = 16384
    """Samples of each side in one turn; by default as many as between two solves of ridge."""
    turns: int = 5
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of all the learners."""


@dataclass
class Speeds:
    """Seconds that each side took for ``samples`` samples, turn by turn."""

    samples: int
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def samples_per_second(self, side: str) -> float:
        """Samples learned per second over all turns."""
        return self.samples * len(self.seconds[side]) / sum(self.seconds[side])

    def ratio(self, side: str) -> float:
        """Speed over all turns, relative to the bare loop."""
        return self.samples_per_second(side) / self.samples_per_second(BARE)

    def quartiles(self, side: str) -> tuple[float, float]:
        """Lower and upper quartile of the ratio over the turns; with a single turn, its value twice."""
        ratios = [bare / own for bare, own in zip(self.seconds[BARE], self.seconds[side], strict=True)]
        if len(ratios) < 2:
            return ratios[0], ratios[0]
        lower, _, upper = quantiles(ratios, n=4, method="inclusive")
        return lower, upper


def bench_speed(
    bench: SpeedBench, seed: int = 0, others: Mapping[str, Side] | None = None
) -> Iterator[Speeds]:
    """Yield the speeds so far after each turn; ``others`` are further sides, by name.

    The first turn, in which learners solve more often, is not counted. Raises InvalidSetting for a learner
    that does not exist, and for an option that it lacks.
    """
    layout = Layout()
    x_NCHW, y_N = noise_images(layout, bench.samples, seed)
    options = dict(bench.options)
    settings = [
        LearnerSettings(name=name, threads=bench.threads, seed=seed, options=options)
        for name in bench.learners
    ]
    learners = [create_learner(chosen, layout) for chosen in settings]
    sides: dict[str, Side] = {BARE: _BareLoop(layout, seed)}
    sides |= {learner.name: _ServiceLoop(learner) for learner in learners}
    sides |= others or {}
    speeds = Speeds(bench.samples, {name: [] for name in sides})
    with _imports_uncollected():
        for turn, names in enumerate(islice(random_orders([*sides], seed), bench.turns + 1)):
            for name in names:
                seconds = sides[name](x_NCHW, y_N)
                if turn:
                    speeds.seconds[name].append(seconds)
            if turn:
                yield speeds


@contextmanager
def _imports_uncollected() -> Iterator[None]:
    """Within it, garbage collection skips the objects that exist at its start, like those of imports.

    With Avalanche and CapyMOA imported, a full collection takes 0.4 s, and would be counted on whichever
    side happens to start it.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def speeds_table(speeds: Speeds, threads: int) -> Table:
    """Return a row for each side: its speed, and its ratio to the bare loop's with the quartiles."""
    turns = len(speeds.seconds[BARE])
    table = Table("side", title=f"{turns} turns of {speeds.samples:,} samples, {threads} threads")
    for heading in ("samples/s", "relative to bare", "quartiles"):
        table.add_column(heading, justify="right")
    for side in speeds.seconds:
        lower, upper = speeds.quartiles(side)
        quartiles = f"{lower:.2f} … {upper:.2f}"
        table.add_row(side, f"{speeds.samples_per_second(side):,.0f}", f"{speeds.ratio(side):.2f}", quartiles)
    return table


class _BareLoop:
    """Trains the reference network; called with a turn's images, returns the seconds it took."""

    def __init__(self, layout: Layout, seed: int) -> None:
        self._model = build("small-cnn", layout, seed)
        self._optimizer = torch.optim.Adam(self._model.parameters())

    def __call__(self, x_NCHW: Pixels, y_N: Labels) -> float:
        began = time.perf_counter()
        batches = zip(*(torch.split(torch.from_numpy(a), _BARE_BATCH) for a in (x_NCHW, y_N)), strict=True)
        for x_BCHW, y_B in batches:
            loss = nn.functional.cross_entropy(self._model(as_floats(x_BCHW, x_BCHW.device)), y_B)
            self._optimizer.zero_grad()
            torch.autograd.backward(loss)
            self._optimizer.step()
        return time.perf_counter() - began


class _ServiceLoop:
    """Learns with the loop of the service; called with a turn's images, returns the seconds it took."""

    def __init__(self, learner: Learner) -> None:
        self._learner, self._detector = learner, BoundaryDetector()

    def __call__(self, x_NCHW: Pixels, y_N: Labels) -> float:
        seconds = 0.0

        def emit(event: Event) -> None:
            nonlocal seconds
            if isinstance(event, BatchLearned):
                seconds += event.step_seconds

        samples = [Sample(pixels, int(label)) for pixels, label in zip(x_NCHW, y_N, strict=True)]
        feed = MemoryFeed(samples, len(samples), BatchSettings(size=self._learner.batch_size, slots=2))
        Loop(
            feed, self._learner, None, NEVER, History([]), emit, lambda: False, detector=self._detector
        ).run()
        return seconds
