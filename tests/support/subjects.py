"""Images of several subjects, which `Experts` distinguishes, and experts whose regimes are given."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from lethe.learners.analytic.experts import Experts
from lethe.learners.analytic.regime_tracker import RegimeTracker
from lethe.learners.base import LearnerContext
from lethe.learners.state import JSON
from lethe.wire import Layout

__all__ = ["LAYOUT", "OPTIONS", "Assigned", "subject"]

LAYOUT: Final = Layout(height=12, width=12, classes=4)
OPTIONS: Final[dict[str, JSON]] = {"waves": 60, "refresh_every": 1024}


def subject(which: int, seed: int, count: int = 64) -> tuple[Tensor, Tensor]:
    """Images of one subject: each its own background and its own order of the classes' four corners."""
    generator = torch.Generator().manual_seed(1000 * which + seed)
    y_N = torch.randint(4, (count,), generator=generator)
    corners_N122 = torch.nn.functional.one_hot((y_N + which) % 4, 4).view(count, 1, 2, 2)
    bright = 70 * corners_N122.repeat_interleave(6, 2).repeat_interleave(6, 3)
    noise = torch.randint(60, (count, 1, 12, 12), generator=generator)
    background = torch.zeros(1, 1, 12, 12, dtype=torch.int64)
    background[..., 3 * which : 3 * which + 3, :] = 100
    return (bright + noise + background).to(torch.uint8), y_N


class Assigned(Experts):
    """Experts of ``regimes`` regimes whose samples join the regimes that are given to `learn_as`."""

    def __init__(self, regimes: int) -> None:
        super().__init__(LearnerContext(LAYOUT, options=OPTIONS))
        self._experts = [self._new() for _ in range(regimes)]

    def learn_as(self, x_BCHW: Tensor, y_B: Tensor, regimes: Sequence[int] | Tensor) -> None:
        """Learn a batch, each sample in its regime."""
        self._given = torch.as_tensor(regimes)
        self.learn(x_BCHW, y_B)

    def _regimes(self, z_BS: Tensor) -> tuple[Tensor, RegimeTracker]:
        return self._given, RegimeTracker()
