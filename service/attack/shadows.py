"""Learners that each learned another random half of the same samples, and what they say of all.

Shapes: M learners, N samples, C channels, H height, W width.
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
    """How much an attack finds out, the mean over the learners, each of which was the target once."""

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
    logit_MN: Confidences
    right_MN: Members
    member_MN: Members

    def leaks(self) -> list[Leak]:
        """Return what both attacks find out."""
        by_loss = [loss_threshold(logit_N) for logit_N in self.logit_MN]
        ratio = [likelihood_ratio(self.logit_MN, self.member_MN, m) for m in range(len(self.logit_MN))]
        return [self._leak("loss threshold", by_loss), self._leak("likelihood ratio", ratio)]

    def _leak(self, attack: str, scores: list[Scores]) -> Leak:
        pairs = [(s[member], s[~member]) for s, member in zip(scores, self.member_MN, strict=True)]
        return Leak(
            learner=self.learner,
            attack=attack,
            auc=float(np.mean([auc(*pair) for pair in pairs])),
            tpr=float(np.mean([tpr_at(FPR, *pair) for pair in pairs])),
            accuracy_learned=float(self.right_MN[self.member_MN].mean()),
            accuracy_held_out=float(self.right_MN[~self.member_MN].mean()),
        )


def halves(learners: int, samples: int, seed: int) -> Members:
    """Return who learns what, of shape [M, N]: each sample is learned by half of the learners, drawn."""
    order_MN = np.random.default_rng(seed).random((learners, samples)).argsort(0)
    return order_MN < learners // 2


def attack(
    name: str,
    samples: Samples,
    member_MN: Members,
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
    return Shadows(name, np.stack(logits), np.stack(right), member_MN)
