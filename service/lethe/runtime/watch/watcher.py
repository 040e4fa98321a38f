"""The loop that watches a model: asks it about the probes round after round, and emits events as a run does.

The history's axis is time: where a run counts samples learned, it counts seconds since the first evaluation.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from lethe.errors import TargetUnavailable, UnexpectedAnswer
from lethe.evaluation.drop_test import DropTest, share_of_alpha
from lethe.evaluation.history import History
from lethe.evaluation.objective import LEARNED
from lethe.events import (
    DropFound,
    Emit,
    Evaluated,
    LoopTurned,
    SegmentsCapped,
    SegmentStarted,
    TargetStatus,
)
from lethe.runtime.segmentation import MOST_SEGMENTS
from lethe.runtime.watch.asking import Asker, Outcome
from lethe.runtime.watch.panel import Panel
from lethe.runtime.watch.visits import Visit, VisitFile, Visits, riser
from lethe.runtime.watch.watch_state import WatchFolder, WatchState

__all__ = ["Pattern", "Watcher"]

logger = logging.getLogger("lethe")

REST_SECONDS: Final = 0.5
"""How often a loop that waits for its next round looks for visits and for a request to stop."""
GROWTH: Final = 2.0
"""A round goes on while its latest draws have multiplied the evidence by this."""

Draws = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pattern:
    """When a model is asked, about how many images, and what counts as a drop."""

    every: float = 60.0
    """Seconds from the beginning of one round to that of the next."""
    sample: int | None = None
    """Images of each probe in a round, chosen anew each time; None for all of them."""
    alpha: float = 0.05
    """Most that the probability of any false alarm may be, over the whole life of the service."""
    tolerance: float = 0.01
    """Loss of accuracy that is no drop."""


class Watcher:
    """Watches one model with ``asker``, on ``panels``, and keeps ``state`` in ``folder``.

    All images are asked about in the first round of a process, after a visit and after a drop; the answers
    are what later ones are compared with. In the other rounds ``pattern.sample`` images of each probe are
    drawn, and a reading is over the latest answer to each image. A drop begins a visit of its own.

    A round without complete answers measures nothing: what the model knows is unknown then, not forgotten.
    """

    def __init__(
        self,
        asker: Asker,
        panels: Sequence[Panel],
        history: History,
        state: WatchState,
        folder: WatchFolder,
        announced: Visits,
        file: VisitFile,
        emit: Emit,
        stopping: Callable[[], bool],
        pattern: Pattern,
        rest: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
        random: np.random.Generator | None = None,
    ) -> None:
        self._asker, self._panels, self._history = asker, panels, history
        self._state, self._folder, self._announced, self._file = state, folder, announced, file
        self._emit, self._stopping, self._pattern = emit, stopping, pattern
        self._rest, self._clock = rest, clock
        self._random = np.random.default_rng() if random is None else random
        self._tests: dict[str, DropTest] = {}
        self._fresh = True
        """This process has not asked about all images yet."""
        self._expected = set[str]()
        """Versions that announced visits named before the model reported them."""
        if state.baselines:
            for panel in panels:
                panel.baseline = state.baselines[panel.name]
            self._begin_tests()
        self._visits: list[Visit] = []
        self._status: TargetStatus | None = None

    def run(self, rounds: int | None = None) -> None:
        """Watch until ``stopping`` returns true, or for so many ``rounds``.

        Raises UnexpectedAnswer if the very first answer does not fit the protocol: that is a wrong setting.
        """
        while not self._stopping() and rounds != 0:
            began = time.monotonic()
            self.round()
            if rounds is not None:
                rounds -= 1
                if not rounds:
                    return
            while not self._stopping() and (left := began + self._pattern.every - time.monotonic()) > 0:
                self._rest(min(left, REST_SECONDS))
                self.turn()
                self._collect_visits()
                if self._visits:
                    break  # measured at once

    def round(self) -> None:
        """Ask once, and emit what is measured."""
        self._collect_visits()
        began = time.perf_counter()
        try:
            version = self._asker.target.refresh()
            changed = version is not None and version != self._state.version
            if self._fresh or self._visits or changed or self._pattern.sample is None:
                self._measure(began)
            else:
                self._draw(began, self._pattern.sample)
        except TargetUnavailable as error:
            if isinstance(error, UnexpectedAnswer) and self._status is None:
                raise
            if not self._stopping():
                self._set_status(TargetStatus(up=False, detail=str(error)))
        self.turn()

    def turn(self) -> None:
        """Say that the loop is alive."""
        self._emit(LoopTurned(0))

    def _collect_visits(self) -> None:
        self._visits += self._announced.take()
        self._visits += self._file.take()

    def _measure(self, began: float, dropped: bool = False) -> None:
        """Ask about all images, begin the visits that are due, and emit an evaluation."""
        everything = [np.arange(len(panel)) for panel in self._panels]
        version = self._ask(everything)
        latest = self._history.latest()
        changed = version is not None and version != self._state.version and latest is not None
        if self._tests and not (self._visits or changed or dropped):
            draws = [self._random.integers(len(panel), size=len(panel)) for panel in self._panels]
            self._add_round(draws)
            dropped = self._alarmed()
        readings = {panel.name: panel.reading() for panel in self._panels}
        now = {name: reading.accuracy for name, reading in readings.items()}
        begun = False
        if latest is not None:
            before = dict(latest.accuracy)
            unannounced = changed and version not in self._expected
            found = self._visits or ([Visit(version=version)] if unannounced or dropped else [])
            for visit in found:
                begun = self._begin(visit.segment or self._found(before, now)) or begun
        self._expected |= {visit.version for visit in self._visits if visit.version is not None}
        self._visits, self._fresh = [], False
        self._state = self._state.model_copy(
            update={"version": version or self._state.version, "lines_read": self._file.read}
        )
        self._evaluate(began)
        if latest is None:
            self._begin_known(now)
        if not self._tests or begun or changed or dropped:
            for panel in self._panels:
                panel.remember()
            self._begin_tests()
        self._save()

    def _draw(self, began: float, sample: int) -> None:
        """Ask about a few images, go on while they are evidence of a drop, and emit an evaluation."""
        for test in self._tests.values():
            test.start_round()
        asked = 0
        while True:
            draws = [self._random.integers(len(panel), size=sample) for panel in self._panels]
            evidence = {name: float(test.evidence[0]) for name, test in self._tests.items()}
            version = self._ask(draws)
            if version is not None and version != self._state.version:
                self._measure(began)
                return
            self._add(draws)
            asked += sample
            if self._alarmed():
                self._measure(began, dropped=True)
                return
            grows = any(test.evidence[0] > GROWTH * evidence[name] for name, test in self._tests.items())
            if not grows or asked >= max(map(len, self._panels)) or self._stopping():
                break
        self._evaluate(began)
        self._save()

    def _ask(self, draws: Sequence[Draws]) -> str | None:
        """Ask about the images at ``draws`` of each panel; return the version that answered.

        Raises TargetUnavailable unless all were answered, by one version.
        """
        x_NCHW = np.concatenate([panel.x_NCHW[at] for panel, at in zip(self._panels, draws, strict=True)])
        outcome = self._asker.ask(x_NCHW)
        _require_complete(outcome)
        self._set_status(TargetStatus(up=True))
        start = 0
        for panel, at in zip(self._panels, draws, strict=True):
            end = start + len(at)
            panel.answered(at, outcome.labels_N[start:end], outcome.confidence_N[start:end])
            start = end
        return next(iter(outcome.versions), None)

    def _add_round(self, draws: Sequence[Draws]) -> None:
        for test in self._tests.values():
            test.start_round()
        self._add(draws)

    def _add(self, draws: Sequence[Draws]) -> None:
        for panel, at in zip(self._panels, draws, strict=True):
            self._tests[panel.name].add(*panel.changes(at), images=len(at))

    def _alarmed(self) -> bool:
        found = [(name, test) for name, test in self._tests.items() if test.alarm[0]]
        for name, test in found:
            self._emit(DropFound(name, test.rounds, test.images))
        return bool(found)

    def _begin_tests(self) -> None:
        """Compare later answers with the baselines, in tests that have their share of α."""
        number = self._state.tests + 1
        baselines = {panel.name: panel.baseline for panel in self._panels}
        self._state = self._state.model_copy(update={"tests": number, "baselines": baselines})
        alpha = share_of_alpha(self._pattern.alpha, number) / len(self._panels)
        self._tests = {panel.name: DropTest(alpha, self._pattern.tolerance) for panel in self._panels}

    def _found(self, before: dict[str, float], now: dict[str, float]) -> str | None:
        """Return what a visit that nobody named is to: the probe that improved, or the segment before."""
        segments = self._history.segments
        images = {panel.name: len(panel) for panel in self._panels}
        return riser(before, now, images) or (segments[-1] if segments else None)

    def _begin_known(self, now: dict[str, float]) -> None:
        """Begin a visit for each skill that the model has already, and evaluate again, so that it counts."""
        known = [name for name, accuracy in now.items() if accuracy >= LEARNED]
        for name in known:
            self._begin(name)
        if known:
            self._emit_evaluation(0.0)

    def _begin(self, segment: str | None) -> bool:
        """Begin a visit; return whether there is one."""
        if segment is None:
            logger.warning("a visit without a segment is not counted: no probe improved, and none is known")
            return False
        visit = len(self._history.segments) + 1
        if visit > MOST_SEGMENTS:
            self._emit(SegmentsCapped(MOST_SEGMENTS, segment))
            return False
        self._history.segment_started(segment)
        self._emit(SegmentStarted(segment, visit, self._history.samples))
        return True

    def _evaluate(self, began: float) -> None:
        if self._history.latest() is not None:
            seconds = int(self._clock() - self._state.began) - self._history.samples
            self._history.learned(max(1, seconds), None)
        else:
            self._state = self._state.model_copy(update={"began": self._clock()})
        self._emit_evaluation(time.perf_counter() - began)

    def _emit_evaluation(self, seconds: float) -> None:
        segments = self._history.segments
        event = Evaluated(
            samples=self._history.samples,
            readings={panel.name: panel.reading() for panel in self._panels},
            full=True,
            visit=len(segments),
            segment=segments[-1] if segments else None,
            ends_segment=False,
            seconds=seconds,
            images={panel.name: len(panel) for panel in self._panels},
        )
        self._emit(event)
        self._emit(self._history.evaluated(event))

    def _set_status(self, status: TargetStatus) -> None:
        if status != self._status:
            self._status = status
            self._emit(status)

    def _save(self) -> None:
        history = cast("dict[str, object]", self._history.to_json())
        self._state = self._state.model_copy(update={"history": history})
        try:
            self._folder.save(self._state)
        except OSError as error:
            logger.warning("the state was not written, watching continues: %s", error)


def _require_complete(outcome: Outcome) -> None:
    if outcome.failure:
        raise (UnexpectedAnswer if outcome.unexpected else TargetUnavailable)(outcome.failure)
    if len(outcome.versions) > 1:
        raise TargetUnavailable(
            f"versions {', '.join(sorted(outcome.versions))} answered in one round: it measures none of them"
        )
