"""Learners that each learned another random half of the same samples, and what they say of all.

Shapes: M learners, of which the first S are shadows and the others targets; N samples.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from service.attack.inference import Confidences, Members, likelihood_ratio, logit, loss_threshold
from service.attack.roc import Scores, auc, tpr_at
from service.learners import create, find
from service.learners.base import JSON, LearnerContext
from service.privacy.samples import Samples
from service.wire import Layout

__all__ = ["FPR", "Leak", "Shadows", "attack", "halves"]

FPR = 0.01
"""Strangers taken for members, at most: an attack that is right of a few only is an attack."""
_ROWS = 1024  # predicted at once


@dataclass(frozen=True, slots=True)
class Leak:
    """How much an attack finds out, the mean over the targets."""

    learner: str
    attack: str
    auc: float
    """0.5 is chance, 1 is every member."""
    tpr: float
    """Share of the members found where one stranger in a hundred is taken for one."""
    accuracy_learned: float
    accuracy_held_out: float


@dataclass(frozen=True, slots=True)
class Shadows:
    """What M learners of one kind say of N samples, and which of these each has learned."""

    learner: str
    shadows: int
    """S; the others are targets."""
    logit_MN: Confidences
    right_MN: Members
    member_MN: Members

    def leaks(self) -> list[Leak]:
        """Return what both attacks find out."""
        S = self.shadows
        targets = self.logit_MN[S:]
        by_loss = [loss_threshold(logit_N) for logit_N in targets]
        ratio = [likelihood_ratio(logit_N, self.logit_MN[:S], self.member_MN[:S]) for logit_N in targets]
        return [self._leak("loss threshold", by_loss), self._leak("likelihood ratio", ratio)]

    def _leak(self, attack: str, scores: list[Scores]) -> Leak:
        members, right = self.member_MN[self.shadows :], self.right_MN[self.shadows :]
        pairs = [(s[member], s[~member]) for s, member in zip(scores, members, strict=True)]
        return Leak(
            learner=self.learner,
            attack=attack,
            auc=float(np.mean([auc(*pair) for pair in pairs])),
            tpr=float(np.mean([tpr_at(FPR, *pair) for pair in pairs])),
            accuracy_learned=float(right[members].mean()),
            accuracy_held_out=float(right[~members].mean()),
        )


def halves(shadows: int, targets: int, samples: int, seed: int) -> Members:
    """Return who learns what, of shape [M, N]: half of the shadows each sample, each target half of them.

    Targets are drawn by themselves, so what shadows learned says nothing about them.
    """
    dice = np.random.default_rng(seed)
    shadows_SN = dice.random((shadows, samples)).argsort(0) < shadows // 2
    targets_TN = dice.random((targets, samples)).argsort(1) < samples // 2
    return np.concatenate([shadows_SN, targets_TN])


def attack(
    name: str,
    samples: Samples,
    member_MN: Members,
    shadows: int,
    layout: Layout,
    options: dict[str, JSON],
    done: Callable[[], None] = lambda: None,
) -> Shadows:
    """Let a learner of that name learn each half, in one pass and its own batch size, and ask it of all.

    Learner m is drawn from seed m. ``done`` is called after each. Raises InvalidSetting.
    """
    x, y = torch.from_numpy(samples.x_NCHW), torch.from_numpy(samples.y_N)
    logits, right = [], []
    for seed, member_N in enumerate(member_MN):
        learner = create(name, LearnerContext(layout, seed, options=options))
        rows = torch.from_numpy(np.random.default_rng(seed).permutation(np.flatnonzero(member_N)))
        for batch in torch.split(rows, find(name).batch_size):
            learner.learn(x[batch], y[batch])
        p_NK = torch.cat([learner.predict(part) for part in torch.split(x, _ROWS)]).double().numpy()
        logits.append(logit(p_NK, samples.y_N))
        right.append(p_NK.argmax(1) == samples.y_N)
        done()
    return Shadows(name, shadows, np.stack(logits), np.stack(right), member_MN)
