"""One lesson: a batch is predicted, learned and overwritten, and searched for a boundary."""

import time
from dataclasses import dataclass

import torch

from service.drift.features import FeatureSums, sum_features
from service.drift.watch import Watch
from service.evaluation.history import History
from service.events import BatchLearned, BoundaryDetected, Emit, PrivacySpent, RegimeTold
from service.feed import Batch
from service.learners.base import Learner
from service.learners.private import PrivateLearner

__all__ = ["Lesson"]


@dataclass(frozen=True)
class Lesson:
    """Teaches ``learner`` a batch.

    ``watch`` finds boundaries in the stream, and the learner hears of each between two batches,
    unless an ``oracle`` tells it of the switches instead.
    """

    learner: Learner
    history: History
    emit: Emit
    watch: Watch | None = None
    oracle: bool = False

    def __call__(self, batch: Batch) -> BatchLearned:
        """Predict and learn a batch, and overwrite its pixels; raises DivergedLoss."""
        filled = batch.filled
        started = time.perf_counter()
        learned = self.learner.learn(torch.from_numpy(batch.x_BCHW), torch.from_numpy(batch.y_B))
        correct = int((learned.predicted_B.numpy() == batch.y_B).sum())
        features = None if self.watch is None else sum_features(batch.x_BCHW)
        discarded = batch.discard()
        residency = time.monotonic() - filled.arrived
        self.history.learned(filled.samples, correct)
        if features is not None and self.watch is not None:
            self._look_for_boundary(self.watch, features, correct, learned.loss)
        return BatchLearned(
            samples=filled.samples,
            discarded=discarded,
            correct=correct,
            loss=learned.loss,
            step_seconds=time.perf_counter() - started,
            residency_seconds=residency,
            latency_seconds=time.time() - filled.produced,
            prequential=self.history.prequential.cumulative,
            prequential_fading=self.history.prequential.fading,
        )

    def privacy_spent(self) -> bool:
        """Tell what differential privacy has cost so far; true when no more may be learned."""
        if not isinstance(self.learner, PrivateLearner):
            return False
        privacy = self.learner.privacy()
        self.emit(PrivacySpent(privacy.epsilon, privacy.delta, privacy.budget, privacy.spent))
        return privacy.spent

    def _look_for_boundary(
        self, watch: Watch, features: FeatureSums, correct: int, loss: float | None
    ) -> None:
        before, met = watch.regime, watch.met
        signal = watch.hears(features, correct, loss)
        if before is None and watch.regime is not None:
            self.history.regime_told(watch.regime)
            self.emit(RegimeTold(watch.regime, watch.regime <= met, self.history.samples))
        if signal is None:
            return
        self.history.boundary_detected(signal)
        self.emit(BoundaryDetected(signal, self.history.samples))
        if not self.oracle:
            self.learner.boundary()
