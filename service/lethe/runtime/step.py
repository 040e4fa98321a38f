"""The training step: a batch is predicted, learned and overwritten, and searched for a boundary."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from lethe.drift.detector import BoundaryDetector
from lethe.drift.features import FeatureSums, sum_features
from lethe.drift.surge import SurgeTest
from lethe.evaluation.history import History
from lethe.events import (
    BatchLearned,
    BoundaryDetected,
    Emit,
    LossSurged,
    PrivacySpent,
    RegimeAssigned,
    WeightsMoved,
)
from lethe.ingest.feed import Batch
from lethe.learners.base import Learned, Learner
from lethe.learners.fixed_features import FixedFeatures, LearnsFromFeatures
from lethe.learners.motion import Motion
from lethe.learners.predictor import restricted
from lethe.learners.private.base import PrivateLearner
from lethe.runtime.predictions import Predicted

__all__ = ["LearnedBatch", "Step", "TrainingStep", "learn_batch"]


class Step(NamedTuple):
    """The result of a training step: its event, and what the receipt needs besides."""

    event: BatchLearned
    regimes: Sequence[int]
    """The regime to whose sums each sample was added; empty for a learner without."""
    predicted: Predicted | None = None
    """What was predicted before the batch was learned, if anybody wants to know."""


@dataclass(frozen=True, slots=True)
class LearnedBatch:
    """A batch that was predicted, learned and overwritten, in numbers; ``at`` is on the monotonic clock."""

    samples: int
    discarded: int
    correct: int
    loss: float | None
    at: float
    step_seconds: float
    residency_seconds: float
    latency_seconds: float
    regimes: Sequence[int] = ()
    """The regime to whose sums each sample was added; empty for a learner without."""


def learn_batch(
    learner: Learner,
    batch: Batch,
    *,
    features: bool = False,
    predictions: bool = False,
    known: int | None = None,
) -> tuple[LearnedBatch, FeatureSums | None, Predicted | None]:
    """Predict and learn a batch, and overwrite its pixels; raises DivergedLoss.

    With ``features``, return those that boundary detection uses; with ``predictions``, what was predicted.
    If only the first ``known`` classes have appeared before the batch, one of these is predicted.
    """
    filled = batch.filled
    started = time.perf_counter()
    x_BCHW, y_B = torch.from_numpy(batch.x_BCHW), torch.from_numpy(batch.y_B)
    proba_BK = None
    predictions = predictions or known is not None
    if predictions and not learner.reports_probabilities:
        proba_BK = learner.predict_proba(x_BCHW)
    learned = _learn(learner, batch, x_BCHW, y_B)
    if predictions and learned.probabilities is not None:
        proba_BK = learned.probabilities()
    class_B = learned.predicted_B
    if proba_BK is not None and known is not None:
        proba_BK = restricted(proba_BK, known)
        class_B = proba_BK.argmax(1) if known else torch.full_like(class_B, -1)
    predicted = None if proba_BK is None else Predicted(class_B, proba_BK)
    correct = int((class_B.numpy() == batch.y_B).sum())
    sums = sum_features(batch.x_BCHW) if features else None
    discarded, now = batch.discard(), time.monotonic()
    numbers = LearnedBatch(
        samples=filled.samples,
        discarded=discarded,
        correct=correct,
        loss=learned.loss,
        at=now,
        step_seconds=time.perf_counter() - started,
        residency_seconds=now - filled.arrived,
        latency_seconds=time.time() - filled.produced,
        regimes=() if learned.regime_B is None else learned.regime_B.tolist(),
    )
    return numbers, sums, predicted


def _learn(learner: Learner, batch: Batch, x_BCHW: Tensor, y_B: Tensor) -> Learned:
    if batch.features_BD is not None and isinstance(learner, LearnsFromFeatures):
        return learner.learn_features(torch.from_numpy(batch.features_BD), x_BCHW, y_B)
    return learner.learn(x_BCHW, y_B)


@dataclass
class TrainingStep:
    """One training step of ``learner``, called with each batch.

    ``detector`` finds boundaries in the stream; the learner is notified of each, unless an ``oracle``
    notifies it of the switches instead; ``notify`` does so in place of the learner's own method. Without
    ``prequential`` the accuracy, the loss and the gradient of the batch, which are exact numbers about its
    records, are neither emitted nor counted. With ``predictions``, its steps hold what was predicted. With
    ``estimates``, the accuracy on all records, labelled or not, is also estimated from the confidences.
    """

    learner: Learner
    history: History
    emit: Emit
    detector: BoundaryDetector | None = None
    oracle: bool = False
    prequential: bool = True
    predictions: bool = False
    notify: Callable[[], None] | None = None
    estimates: bool = False
    surges: SurgeTest = field(default_factory=SurgeTest)
    _reported: Motion | None = field(default=None, init=False)

    def __call__(self, batch: Batch, known: int | None = None) -> Step:
        """Predict and learn a batch, and overwrite its pixels; raises DivergedLoss.

        Where classes appear over time, ``known`` is how many have before the batch.
        """
        estimates = self._estimates
        labels_B = batch.y_B.copy() if estimates else None  # the batch's own are overwritten
        learned, features, predicted = learn_batch(
            self.learner,
            batch,
            features=self.detector is not None,
            predictions=self.predictions or estimates,
            known=known,
        )
        if predicted is not None and labels_B is not None:
            confidence_B = predicted.confidence()
            self.history.estimated.add(confidence_B)
            self.history.estimated.learn(confidence_B, predicted.class_B.numpy() == labels_B)
        step = self.account(learned, features)._replace(predicted=predicted)
        if self.prequential:
            self._report_motion(learned.loss)
        return step

    def predict_unlabelled(self, batch: Batch, known: int | None = None) -> Predicted | None:
        """Return what is predicted for the samples without a label; None if it is not used.

        Called before the others of the batch are learned. A learner on fixed features, which would have to
        solve for it, predicts from its last solution. Their confidences count towards the estimated accuracy.
        """
        if not (self.predictions or self._estimates):
            return None
        kind = self.learner.predictor() if isinstance(self.learner, FixedFeatures) else self.learner
        proba_BK = kind.predict_proba(torch.from_numpy(batch.unlabelled_UCHW))
        class_B = proba_BK.argmax(1)
        if known is not None:
            proba_BK = restricted(proba_BK, known)
            class_B = proba_BK.argmax(1) if known else torch.full_like(class_B, -1)
        predicted = Predicted(class_B, proba_BK)
        if self._estimates:
            self.history.estimated.add(predicted.confidence())
        return predicted

    @property
    def _estimates(self) -> bool:
        """Whether the accuracy is estimated: not where the measured one is withheld."""
        return self.estimates and self.prequential

    def account(self, learned: LearnedBatch, features: FeatureSums | None) -> Step:
        """Count a batch that was learned, here or by another rank, and look for a boundary in it."""
        self.history.learned(learned.samples, learned.correct if self.prequential else None)
        event = BatchLearned(
            samples=learned.samples,
            discarded=learned.discarded,
            correct=learned.correct if self.prequential else None,
            loss=learned.loss if self.prequential else None,
            step_seconds=learned.step_seconds,
            residency_seconds=learned.residency_seconds,
            latency_seconds=learned.latency_seconds,
            prequential=self.history.prequential.cumulative,
            prequential_fading=self.history.prequential.fading,
            estimated=self.history.estimated.fading,
        )
        if features is not None and self.detector is not None:
            self._look_for_boundary(self.detector, features, learned.correct, learned.loss)
        return Step(event, learned.regimes)

    def privacy_spent(self) -> bool:
        """Emit the privacy spent so far; return whether the learner must not learn another batch."""
        if not isinstance(self.learner, PrivateLearner):
            return False
        privacy = self.learner.privacy()
        self.emit(PrivacySpent(**asdict(privacy)))
        return privacy.spent

    def _report_motion(self, loss: float | None) -> None:
        motion = self.learner.motion
        if motion is None:
            return
        if motion is not self._reported:
            self._reported = motion
            self.emit(WeightsMoved(motion.gradient, motion.step, motion.turn, motion.interference))
        if loss is not None and (ratio := self.surges.add(loss)) is not None:
            self.emit(LossSurged(ratio, self.history.samples))

    def _look_for_boundary(
        self, detector: BoundaryDetector, features: FeatureSums, correct: int, loss: float | None
    ) -> None:
        before, met = detector.regime, detector.met
        found = detector.update(features, correct, loss)
        if found is not None:
            self.history.boundary_detected(found.signal, found.late)
            self.emit(BoundaryDetected(found.signal, self.history.samples))
            if not self.oracle:
                (self.notify or self.learner.boundary)()
        if detector.regime is not None and (before is None or found is not None):
            self.history.regime_assigned(detector.regime)
            self.emit(RegimeAssigned(detector.regime, detector.regime <= met, self.history.samples))
