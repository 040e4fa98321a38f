"""The base of gradient-descent learners that several ranks can train together."""

from hashlib import blake2b
from typing import ClassVar

import torch
from torch import Tensor, nn

from lethe.errors import InvalidSetting, RanksDiffer
from lethe.learners.base import Learned
from lethe.learners.capabilities import Pool, Pools
from lethe.learners.gradient.averaging import Apart, Together
from lethe.learners.gradient.base import GradientLearner, Step
from lethe.learners.gradient.network_check import batch_norms
from lethe.learners.gradient.optimizers import load_moments, moments
from lethe.learners.state import State

__all__ = ["AveragedLearner"]


class AveragedLearner(GradientLearner, Pools):
    """Takes the same steps on every rank, on the average of the gradients of all.

    A step of several ranks is that of one learner with all their batches in one, up to rounding: each rank's
    mean gradient has the weight of its samples. The state is the same on every rank, to the last bit, so that
    nothing has to be collected. A method is of this kind if its state is computed from averages alone.

    Where a method's state is its weights and the optimizer's moments, the ranks can also take steps apart,
    each on its own batches, and average both every few rounds (`average_every`; local SGD, Stich 2019). The
    weight of a rank is then the number of samples that it has learned since the last average.
    """

    no_local_steps: ClassVar[str] = (
        "what it keeps of earlier weights has to be the same on every rank after each step"
    )
    _joined: Pool | None = None
    _rounds = 1  # between two averages of the weights; with 1 gradients are averaged
    _apart = 0  # rounds since the last average
    _own_samples = 0  # samples of this rank in them

    def check_pooling(self) -> None:
        """Raise InvalidSetting for a network whose training keeps more than gradients of each batch."""
        if norms := batch_norms(self._model):
            self._refuse(f"its batch norms ({', '.join(norms)}) use the statistics of each rank's own batch")
        if self._traits.updates:
            self._refuse("training changes buffers of it, by each rank's own batch")

    def join(self, pool: Pool) -> None:
        """Learn with other ranks from now on: `Pools`. Raises the errors of `check_pooling`."""
        self.check_pooling()
        self._joined, self._averaging = pool, Together(pool)

    def _refuse(self, why: str) -> None:
        raise InvalidSetting(
            f"learner.options.backbone: {self._options.backbone}: several ranks cannot train it together: "
            f"{why}"
        )

    def average_every(self, rounds: int) -> None:
        """Take steps apart from now on, and average the weights after so many rounds: `Pools`."""
        if self.no_local_steps:
            super().average_every(rounds)
        self._rounds, self._averaging = rounds, Apart(self._pool.rank)

    @property
    def level(self) -> bool:
        """Whether all ranks hold the same weights."""
        return not self._apart

    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        """Take a step with the other ranks, or apart from them, and average with them if that is due."""
        learned = super().learn(x_BCHW, y_B)
        self._end_round(len(y_B))
        return learned

    def skip(self) -> None:
        """Take the step of the other ranks, without a batch: `Pools`. Raises DivergedLoss."""
        if self._rounds > 1:
            self._end_round(0)
            return
        samples = self._averaging.total(0)
        if samples:
            nothing = torch.empty(0, device=self._device)
            self._clear_gradients()
            self._take(Step(nothing, nothing, nothing, nothing, torch.zeros(()), samples), 0.0, 0.0)

    def _end_round(self, samples: int) -> None:
        """Count a round with so many samples of this rank, and average after the last one."""
        if self._rounds > 1:
            self._apart, self._own_samples = self._apart + 1, self._own_samples + samples
            if self._apart == self._rounds:
                self._average()

    def _average(self) -> None:
        """Replace weights and moments, on every rank, by their averages over all ranks."""
        counted = torch.tensor([self._own_samples])
        self._pool.all_reduce(counted)
        total = int(counted)
        if total:
            own, blank = moments(self._optimizer, self._parameters), self._blank_moments()
            averaged = {name: own.get(name, zeros) for name, zeros in blank.items()}
            weights = [parameter.detach() for parameter in self._parameters.values()]
            Together(self._pool).average([*weights, *averaged.values()], self._own_samples / total)
            load_moments(self._optimizer, self._parameters, averaged)
        self._seen += total - self._own_samples
        self._apart = self._own_samples = 0

    def _blank_moments(self) -> dict[str, Tensor]:
        """Return zeros for all moments: a rank that has taken no step yet has none."""
        copies = {name: nn.Parameter(torch.zeros_like(p)) for name, p in self._parameters.items()}
        optimizer = self._new_optimizer(copies)
        for copy in copies.values():
            copy.grad = torch.zeros_like(copy)
        optimizer.step()
        return {name: torch.zeros_like(tensor) for name, tensor in moments(optimizer, copies).items()}

    def pool(self) -> None:
        """Check that all ranks have the same state, after an average if they stepped apart: `Pools`.

        Raises RanksDiffer.
        """
        if self._apart:
            self._average()
        own = blake2b(self.state().to_bytes(), digest_size=16).digest()
        if self._pool.broadcast_bytes(own) != own:
            raise RanksDiffer(
                f"rank {self._averaging.rank} and rank 0 took the same steps and hold different weights: "
                "start them on equal processors, with equal versions and numbers of threads"
            )

    def share(self, *, refresh: bool) -> None:
        """Give the leading rank's state to all: `Pools`."""
        if not refresh:  # after that, all have it already
            given = self._pool.broadcast_bytes(self.state().to_bytes() if self._pool.leads else b"")
            if not self._pool.leads:
                self.load_state(State.from_bytes(given))

    @property
    def _pool(self) -> Pool:
        if self._joined is None:
            raise ValueError(f"{self.name} has not joined other ranks")
        return self._joined
