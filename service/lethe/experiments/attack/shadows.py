"""Trains learners on random halves of the same samples, and attacks some of them.

Shapes: M learners, of which the first S are shadows and the others targets; N samples.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from lethe.experiments.attack.inference import Confidences, Members, likelihood_ratio, logit, loss_threshold
from lethe.experiments.attack.roc import Scores, auc, tpr_at
from lethe.learners.base import LearnerContext
from lethe.learners.registry import create, find
from lethe.learners.state import JSON
from lethe.privacy.samples import Samples
from lethe.wire import Layout

__all__ = ["FPR", "Leakage", "Shadows", "assign_members", "run_attack"]

FPR = 0.01
"""False positive rate of `Leakage.tpr`: an attack that is sure of a few members counts."""
_ROWS = 1024  # predicted at once


@dataclass(frozen=True, slots=True)
class Leakage:
    """Results of an attack, means over the targets."""

    learner: str
    attack: str
    auc: float
    """Area under the ROC curve: 0.5 is chance, 1 is perfect."""
    tpr: float
    """True positive rate at a false positive rate of 0.01."""
    accuracy_learned: float
    accuracy_held_out: float


@dataclass(frozen=True, slots=True)
class Shadows:
    """Predictions of M learners of one kind on N samples, and which samples each has learned."""

    learner: str
    shadows: int
    """S, the number of shadows; the others are targets."""
    logit_MN: Confidences
    right_MN: Members
    member_MN: Members

    def leaks(self) -> list[Leakage]:
        """Return the results of both attacks."""
        S = self.shadows
        targets = self.logit_MN[S:]
        by_loss = [loss_threshold(logit_N) for logit_N in targets]
        ratio = [likelihood_ratio(logit_N, self.logit_MN[:S], self.member_MN[:S]) for logit_N in targets]
        return [self._leak("loss threshold", by_loss), self._leak("likelihood ratio", ratio)]

    def _leak(self, attack: str, scores: list[Scores]) -> Leakage:
        members, right = self.member_MN[self.shadows :], self.right_MN[self.shadows :]
        pairs = [(s[member], s[~member]) for s, member in zip(scores, members, strict=True)]
        return Leakage(
            learner=self.learner,
            attack=attack,
            auc=float(np.mean([auc(*pair) for pair in pairs])),
            tpr=float(np.mean([tpr_at(FPR, *pair) for pair in pairs])),
            accuracy_learned=float(right[members].mean()),
            accuracy_held_out=float(right[~members].mean()),
        )


def assign_members(shadows: int, targets: int, samples: int, seed: int) -> Members:
    """Return which learner learns which sample, shape [M, N].

    Each sample is learned by half of the shadows, and each target learns half of the samples. Targets are
    drawn independently of the shadows.
    """
    dice = np.random.default_rng(seed)
    shadows_SN = dice.random((shadows, samples)).argsort(0) < shadows // 2
    targets_TN = dice.random((targets, samples)).argsort(1) < samples // 2
    return np.concatenate([shadows_SN, targets_TN])


def run_attack(
    name: str,
    samples: Samples,
    member_MN: Members,
    shadows: int,
    layout: Layout,
    options: dict[str, JSON],
    done: Callable[[], None] = lambda: None,
) -> Shadows:
    """Train a learner on each half, in one pass with its own batch size, and let it predict all samples.

    Learner m has seed m. ``done`` is called after each. Raises InvalidSetting for an unknown learner.
    """
    x, y = torch.from_numpy(samples.x_NCHW), torch.from_numpy(samples.y_N)
    logits, right = [], []
    for seed, member_N in enumerate(member_MN):
        learner = create(name, LearnerContext(layout, seed, options=options))
        rows = torch.from_numpy(np.random.default_rng(seed).permutation(np.flatnonzero(member_N)))
        for batch in torch.split(rows, find(name).batch_size):
            learner.learn(x[batch], y[batch])
        p_NK = torch.cat([learner.predict_proba(part) for part in torch.split(x, _ROWS)]).double().numpy()
        logits.append(logit(p_NK, samples.y_N))
        right.append(p_NK.argmax(1) == samples.y_N)
        done()
    return Shadows(name, shadows, np.stack(logits), np.stack(right), member_MN)
