"""How long before accuracy is lost a surge of the loss warns, switch by switch."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from lethe.drift.detector import BoundaryDetector
from lethe.errors import InvalidSetting
from lethe.evaluation.boundary_scores import switch_spans
from lethe.evaluation.history import History
from lethe.events import BoundaryDetected, Event, LossSurged
from lethe.experiments.anatomy.training import segment_batches
from lethe.learners.base import Learner, LearnerContext
from lethe.learners.gradient.base import GradientLearner
from lethe.learners.registry import create, find
from lethe.runtime.step import TrainingStep
from lethe_producers.datasets import default_root
from lethe_producers.order import Order
from lethe_producers.probes import probes_of
from lethe_producers.records import Records
from lethe_producers.scenario import Scenario, load_scenario, shipped_scenarios

__all__ = ["EARLIER", "LOST", "Warned", "WarnedSwitch", "measure_warnings", "require_network", "warnings_of"]

LOST: Final = 0.05
"""Accuracy on the old probe whose loss a warning should precede."""
IMAGES: Final = 500
"""Images of the old probe."""
LEAST: Final = 2000
"""Least number of samples after a switch in which a surge counts for it."""
EARLIER: Final = (64, 128, 192, 256, 320, 512, 1024)
"""Samples by which a warning can be earlier, for the curve of how often it is."""
DENSE: Final = 40
"""Batches after a switch that are each followed by a measurement; later on every eighth is."""


@dataclass(frozen=True, slots=True)
class WarnedSwitch:
    """One switch; samples count from where the new segment begins to appear. None where it never happened."""

    scenario: str
    old: str
    warned: int | None
    """Samples until the first surge."""
    detected: int | None
    """Samples until the boundary was detected."""
    lost: int | None
    """Samples until the accuracy on the old probe was first measured 5 points below that at the switch."""

    @property
    def earlier(self) -> int | None:
        """By how many samples the warning preceded the loss; None if there was no warning or no loss."""
        return None if self.lost is None or self.warned is None else self.lost - self.warned

    @property
    def in_time(self) -> bool:
        """Whether the warning came first, or nothing was lost."""
        return self.lost is None or (self.warned is not None and self.warned < self.lost)


@dataclass(frozen=True, slots=True)
class Warned:
    """What surges said about one stream."""

    switches: list[WarnedSwitch]
    false_alarms: list[int]
    """Samples learned at each surge that is not the first one after a switch begins."""
    samples: int


def measure_warnings(
    learner: Learner,
    scenario: Scenario,
    seed: int,
    samples: int | None,
    root: Path,
    tick: Callable[[int], None] = lambda _: None,
) -> Warned:
    """Learn ``scenario`` once; ``samples`` limits each segment.

    A surge counts for a switch from where the new segment begins to appear until it has been learned for as
    long as its blend, and at least for `LEAST` samples; all others are false alarms.
    """
    order = Order(scenario, seed, samples)
    records = Records(order, root)
    probes = {
        probe.name: (torch.tensor(probe.x_NCHW[:IMAGES]), torch.tensor(probe.y_N[:IMAGES]))
        for probe in probes_of(scenario, root)
    }
    history = History([])
    surges: list[int] = []
    boundaries: list[int] = []

    def emit(event: Event) -> None:
        match event:
            case LossSurged():
                surges.append(event.samples)
            case BoundaryDetected():
                boundaries.append(event.samples)

    step = TrainingStep(learner, history, emit, BoundaryDetector())
    learned = [index for index in range(len(order)) if order.at(index).fault is None]
    places = list(accumulate(order.lengths))
    ends = [bisect_left(learned, place) for place in places]
    ramps = switch_spans(
        ends[:-1], [(bisect_left(learned, first), bisect_left(learned, last)) for first, last in order.ramps]
    )
    curves: list[list[tuple[int, float]]] = [[] for _ in ramps]
    begin = 0
    for end in places:
        for number, batch in enumerate(segment_batches(records, begin, end, learner.batch_size)):
            if batch.filled.samples:
                step(batch)
            batch.discard()
            tick(batch.filled.received)
            for place, (appears, _) in enumerate(ramps):
                if _is_near(history.samples, appears, learner.batch_size, ends[place + 1], number):
                    old = scenario.segments[place].subject
                    curves[place].append((history.samples, _accuracy(learner, *probes[old])))
        begin = end
    changes = [
        place for place in range(len(ramps)) if _subject(scenario, place) != _subject(scenario, place + 1)
    ]
    spans = [
        (appears, max(appears + LEAST, 2 * ends_at - appears))
        for appears, ends_at in (ramps[place] for place in changes)
    ]
    return Warned(
        [
            WarnedSwitch(
                scenario.name,
                _subject(scenario, place),
                _since(surges, *span),
                _since(boundaries, *span),
                _lost(curves[place], span[0]),
            )
            for place, span in zip(changes, spans, strict=True)
        ],
        [at for at in surges if not any(first < at <= last for first, last in spans)],
        history.samples,
    )


def _subject(scenario: Scenario, place: int) -> str:
    return scenario.segments[place].subject


def _is_near(samples: int, appears: int, size: int, end: int, number: int) -> bool:
    """Return whether the old probe is measured: at the switch, often after it, and then now and then."""
    since = samples - appears
    if since <= -size or samples > end:
        return False
    return since <= DENSE * size or number % 8 == 0


def _accuracy(learner: Learner, x_NCHW: Tensor, y_N: Tensor) -> float:
    return float((learner.predict_proba(x_NCHW).argmax(1) == y_N).double().mean())


def _since(found: list[int], first: int, last: int) -> int | None:
    return next((at - first for at in found if first < at <= last), None)


def _lost(curve: list[tuple[int, float]], appears: int) -> int | None:
    before = [accuracy for at, accuracy in curve if at <= appears]
    if not before:
        return None
    return next((at - appears for at, now in curve if at > appears and now <= before[-1] - LOST), None)


def require_network(learner: str) -> None:
    """Raise InvalidSetting for an unknown learner, and for one without a gradient."""
    if not issubclass(find(learner), GradientLearner):
        raise InvalidSetting(f"--learner {learner}: it trains no network, so it has no gradient")


def warnings_of(
    learner: str,
    scenarios: Sequence[str],
    seeds: int,
    samples: int | None,
    progress: Callable[[float], None] = lambda _: None,
) -> dict[str, list[Warned]]:
    """Measure each of ``scenarios``, by name or path, with each seed from 0; without any, all built-in ones.

    Raises InvalidScenario, and DataUnavailable if a data set is not on this machine.
    """
    loaded = [load_scenario(name) for name in scenarios] if scenarios else shipped_scenarios()
    total = seeds * sum(scenario.total(samples) for scenario in loaded)
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        progress(done / total)

    return {
        scenario.name: [
            measure_warnings(
                create(learner, LearnerContext(scenario.layout, seed)),
                scenario,
                seed,
                samples,
                default_root(),
                tick,
            )
            for seed in range(seeds)
        ]
        for scenario in loaded
    }
