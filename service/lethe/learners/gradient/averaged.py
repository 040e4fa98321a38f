"""The base of gradient-descent learners that several ranks can train together."""

from hashlib import blake2b

import torch

from lethe.errors import InvalidSetting, RanksDiffer
from lethe.learners.capabilities import Pool, Pools
from lethe.learners.gradient.averaging import Together
from lethe.learners.gradient.base import GradientLearner, Step
from lethe.learners.gradient.network_check import batch_norms
from lethe.learners.state import State

__all__ = ["AveragedLearner"]


class AveragedLearner(GradientLearner, Pools):
    """Takes the same steps on every rank, on the average of the gradients of all.

    A step of several ranks is that of one learner with all their batches in one, up to rounding: each rank's
    mean gradient has the weight of its samples. The state is the same on every rank, to the last bit, so that
    nothing has to be collected. A method is of this kind if its state is computed from averages alone.
    """

    _joined: Pool | None = None

    def join(self, pool: Pool) -> None:
        """Learn with other ranks from now on: `Pools`.

        Raises InvalidSetting for a network whose training keeps more than gradients of each batch.
        """
        if norms := batch_norms(self._model):
            self._refuse(f"its batch norms ({', '.join(norms)}) use the statistics of each rank's own batch")
        if self._traits.updates:
            self._refuse("training changes buffers of it, by each rank's own batch")
        self._joined, self._averaging = pool, Together(pool)

    def _refuse(self, why: str) -> None:
        raise InvalidSetting(
            f"learner.options.backbone: {self._options.backbone}: several ranks cannot train it together: "
            f"{why}"
        )

    def skip(self) -> None:
        """Take the step of the other ranks, without a batch: `Pools`. Raises DivergedLoss."""
        samples = self._averaging.total(0)
        if samples:
            nothing = torch.empty(0, device=self._device)
            self._clear_gradients()
            self._take(Step(nothing, nothing, nothing, nothing, torch.zeros(()), samples), 0.0, 0.0)

    def pool(self) -> None:
        """Check that all ranks have the same state: `Pools`. Raises RanksDiffer."""
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
