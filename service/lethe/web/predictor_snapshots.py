"""Keeps a recent snapshot of the learner to predict from, renewed between batches."""

import time
from collections.abc import Callable
from typing import Final

from lethe.events import BatchLearned, CheckpointWritten, ClassesNamed, Evaluated, Event, LoopTurned, Resumed
from lethe.learners.base import Learner
from lethe.learners.finite import FiniteCheck
from lethe.learners.predictor import Predictor, restricted

__all__ = ["PredictorSnapshots"]

RENEW_SECONDS: Final = 1.0
"""Minimum age of a snapshot before it is renewed."""
RENEW_COST: Final = 0.01
"""Maximum share of the time spent on renewing snapshots, up to `MAX_AGE_SECONDS`."""
MAX_AGE_SECONDS: Final = 10.0
"""A snapshot of this age is renewed at any cost."""


class PredictorSnapshots:
    """A subscriber to the events of a run that keeps a recent snapshot of its learner.

    Events are passed on the learning thread between two batches, and snapshots are taken only then. If the
    state of the learner is no longer ``finite``, the previous snapshot is kept.

    With ``restrict``, only classes that have a name are predicted, see `ClassesNamed`.

    With ``commit_first``, a snapshot is published only when the checkpoint of the same state is on disk:
    `hold` takes it together with the checkpoint.
    """

    def __init__(
        self,
        learner: Learner,
        clock: Callable[[], float] = time.monotonic,
        finite: FiniteCheck | None = None,
        commit_first: bool = False,
        restrict: int | None = None,
    ) -> None:
        self._learner, self._clock, self._commit_first = learner, clock, commit_first
        self._finite = finite or FiniteCheck(learner)
        self._known = restrict
        self._learned = self._at = 0
        self._held: tuple[Predictor, int] | None = None
        self.latest: tuple[Predictor, int]
        self._renew()

    def hold(self) -> None:
        """Take a snapshot while a checkpoint is taken, to be published when the checkpoint is written."""
        if self._commit_first:
            self._held = self._snapshot()

    def __call__(self, event: Event) -> None:
        """Handle one event."""
        match event:
            case Resumed():
                self._learned = event.learned
                self._renew()
            case BatchLearned():
                self._learned += event.samples
            case ClassesNamed() if self._known is not None:
                self._known = len(event.names)
            case CheckpointWritten() if self._held is not None:
                self.latest, self._held = self._held, None  # one checkpoint is written at a time
            case LoopTurned() if self._commit_first:
                return
            case LoopTurned() if self._learned != self._at and self._clock() >= self._due:
                self._renew()
            case Evaluated():
                self._renew()  # a learner may have updated its predictor for the evaluation

    def _snapshot(self) -> tuple[Predictor, int]:
        predictor = self._learner.predictor()
        samples = self._learned - predictor.behind
        if (known := self._known) is not None:
            answer = predictor.answer
            predictor = Predictor(lambda x_BCHW: restricted(answer(x_BCHW), known), predictor.behind)
        return predictor, samples

    def _renew(self) -> None:
        started = self._clock()
        if not self._finite.offenders(predicting=True):
            self.latest = self._snapshot()
        self._at = self._learned
        took = self._clock() - started
        self._due = started + min(max(RENEW_SECONDS, took / RENEW_COST), MAX_AGE_SECONDS)
