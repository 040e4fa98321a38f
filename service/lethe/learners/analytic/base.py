"""The learners whose whole knowledge is exact sums over fixed features.

Shapes: B batch, C channels, H height, W width, D features.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from lethe.errors import InvalidSetting
from lethe.learners.analytic.membership import check_membership
from lethe.learners.analytic.sums import Sums
from lethe.learners.base import Learned, Learner, LearnerContext, Retention
from lethe.learners.capabilities import Merges, Pool, Pools, Unlearns
from lethe.learners.features.choice import FeatureOptions, feature_map
from lethe.learners.features.feature_map import FeatureMap
from lethe.learners.fixed_features import LearnsFromFeatures
from lethe.learners.state import State

__all__ = ["SumsLearner", "require_same_scale"]

_CHECKED: float = 0.3  # penalty in the membership test: any value lowers the leverage of a learned sample


class SumsLearner(Learner, LearnsFromFeatures, Unlearns, Merges, Pools):
    """Learns by adding samples' features to `Sums`; everything else follows from these.

    For the same samples the sums are the same to the last bit, whatever their order, the size of the batches,
    the number of threads and the machine. Vectors are standardised by the scale of the options, or by one
    estimated from the first batch, which the state then has: the same sums need the same scale.
    """

    retains: ClassVar[Retention] = Retention.STATISTICS
    batch_size: ClassVar[int] = 512  # fewer passes over the sums, which are the same

    def __init__(self, context: LearnerContext, options: FeatureOptions, *, second: bool = True) -> None:
        """``options`` are those of `feature_map`; ``second`` is that of `Sums`."""
        self._features = feature_map(context, options)
        self._classes, self._device = context.layout.classes, context.device
        self._second = second
        self._sums = self._empty()
        self._pool: Pool | None = None
        self._others = 0  # samples that other ranks have learned since the last pooling

    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        """Predict the batch, then add it to the sums. Raises DivergedLoss."""
        self._features.settle(x_BCHW)
        return self._learn(self._features(x_BCHW), y_B)

    def learn_features(self, features_BD: Tensor, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        """Predict a batch with these features, then add it to the sums: `LearnsFromFeatures`."""
        del x_BCHW  # its features are all that counts
        return self._learn(features_BD, y_B)

    @abstractmethod
    def _learn(self, features_BD: Tensor, y_B: Tensor) -> Learned:
        """Predict a batch with these features, then add it to the sums. Raises DivergedLoss."""

    def features(self, x_BCHW: Tensor) -> Tensor:
        """Return the fixed features, int8: `FixedFeatures`."""
        return self._features(x_BCHW)

    @property
    def features_settled(self) -> bool:
        """Whether the scale of vectors is known."""
        return self._features.settled

    def unlearn(self, x_BCHW: Tensor, y_B: Tensor) -> None:
        """Subtract samples from all sums, which are then those of never having seen them: `Unlearns`.

        An estimated scale of vectors stays what the first batch made it.

        Raises NeverLearned when fewer samples of a class were learned than are to be unlearned, or when one
        cannot be in the sums with its label (`check_membership`).
        """
        features_BD = self._features(x_BCHW)
        check_membership(features_BD, y_B, self._sums, _CHECKED / self._features.scales.square())
        self._sums.subtract(features_BD, y_B)
        self._sums_changed(-len(y_B))

    def sums(self) -> Mapping[str, Tensor]:
        """Return the sums, as whole numbers."""
        return self._sums.tensors()

    def begin_as(self, state: State) -> None:
        """Take over an estimated scale of vectors: `KeepsSums`."""
        self._features.load(state.tensors)

    def merge(self, state: State) -> None:
        """Add the sums of another state: `Merges`. Raises InvalidSetting for another scale of vectors."""
        self._merge(state, 1)

    def subtract(self, state: State) -> None:
        """Subtract the sums of another state: `Merges`. Raises NeverLearned, and as `merge`."""
        self._merge(state, -1)

    def check_pooling(self) -> None:
        """Raise InvalidSetting where every rank would estimate a scale of its own."""
        if not self._features.shared:
            raise InvalidSetting(
                "learner.options.location and spread are needed by ranks that learn vectors: each would"
                " estimate others"
            )

    def join(self, pool: Pool) -> None:
        """Learn with other ranks from now on: `Pools`. Raises the errors of `check_pooling`."""
        self.check_pooling()
        self._pool = pool

    def pool(self) -> None:
        """Move the sums of all ranks to the leading one: `Pools`."""
        self._sums.pool(self._ranks)
        self._others = 0

    def refresh_due(self, others: int) -> bool:
        """Return whether `learn` should predict from a new solution: `Pools`."""
        self._others = others
        return self._refresh_passed()

    @property
    def _ranks(self) -> Pool:
        if self._pool is None:
            raise ValueError(f"{self.name} has not joined other ranks")
        return self._pool

    @property
    def _samples(self) -> int:
        """Samples learned so far, by all ranks."""
        return self._sums.samples + self._others

    @abstractmethod
    def _refresh_passed(self) -> bool:
        """Return whether a new solution is due after `_samples`, and if so schedule the next one."""

    @abstractmethod
    def _sums_changed(self, by: int) -> None:
        """Compute anew what follows from the sums, which have ``by`` more samples without a batch learned."""

    def _empty(self) -> Sums:
        return Sums(self._features.count, self._classes, self._device, second=self._second)

    def _merge(self, state: State, sign: int) -> None:
        require_same_scale(self._features, state)
        other = self._empty()
        other.load(state.tensors)
        self._sums.merge(other, sign)
        self._sums_changed(sign * other.samples)


def require_same_scale(features: FeatureMap, state: State) -> None:
    """Raise InvalidSetting unless the sums of ``state`` are over these features.

    A map that has not settled takes over what the state has.
    """
    if not features.settled:
        features.load(state.tensors)
    own = features.tensors()
    if any(not torch.equal(tensor, state.tensors[name]) for name, tensor in own.items() if name != "scaled"):
        raise InvalidSetting(features.other)
