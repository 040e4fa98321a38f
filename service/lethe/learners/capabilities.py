"""What some learners can do beyond the `Learner` contract, as one mix-in class per capability.

A learner lists the mix-in among its bases and implements its methods::

    class Styx(Learner, Unlearns):
        def unlearn(self, x_BCHW: Tensor, y_B: Tensor) -> None: ...

`Learner.capabilities` follows from the bases, `Learner.why_not` gives the reason for one that is missing, and
`lethe.learners.checks.checks_for` yields the checks of those that are there.

Shapes: B batch, C channels, H height, W width.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar, Protocol

from torch import Tensor

from lethe.learners.state import State

__all__ = [
    "Capability",
    "Expires",
    "KeepsSums",
    "Merges",
    "Pool",
    "Pools",
    "Provides",
    "Unlearns",
    "UnlearnsFromRegimes",
]


class Capability(StrEnum):
    """What a learner may be able to do."""

    UNLEARNS = "unlearns"
    """Removes the effect of given samples exactly, on demand: `Unlearns`."""
    MERGES = "merges"
    """Adds and subtracts what other learners have learned, exactly: `Merges`."""
    EXPIRES = "expires"
    """Deletes stored samples once they are too old: `Expires`."""
    POOLS = "pools"
    """Learns one model in several processes at once: `Pools`."""
    PRIVATE = "differentially private"
    """Accounts for a privacy budget: `lethe.learners.private.base.PrivateLearner`."""


class Provides(ABC):
    """Base of the mix-ins. ``provides`` names the capability that a mix-in stands for."""

    provides: ClassVar[Capability]


class Unlearns(Provides):
    """A learner whose state is a function of sums over samples, from which a sample can be subtracted."""

    provides: ClassVar[Capability] = Capability.UNLEARNS

    @abstractmethod
    def unlearn(self, x_BCHW: Tensor, y_B: Tensor) -> None:
        """Remove samples that were learned: the state becomes that of never having seen them.

        ``x_BCHW`` (uint8) and ``y_B`` (int64) are as for `Learner.learn`.

        Raises NeverLearned, before the state changes, if the state shows that these samples cannot all be
        in it. That it is not raised does not prove that they are.
        """


class UnlearnsFromRegimes(Unlearns):
    """A learner that keeps sums of each regime of the stream: a sample is in those of one regime alone.

    `Learned.regime_B` says which when it is learned. The sums do not show it afterwards.
    """

    @property
    @abstractmethod
    def regimes(self) -> int:
        """Number of regimes so far."""

    @abstractmethod
    def unlearn(self, x_BCHW: Tensor, y_B: Tensor, regime_B: Tensor | None = None) -> None:
        """Remove samples from the sums of their regimes, as `Unlearns` says.

        The state becomes that of never having seen them, with the same regimes for all others. ``regime_B``,
        int64, may be None while there is one regime. Raises NeverLearned also for a regime that does not
        exist.
        """


class KeepsSums(ABC):
    """A learner whose knowledge is exact sums over samples: whole numbers, without rounding."""

    @abstractmethod
    def sums(self) -> Mapping[str, Tensor]:
        """Return the sums, by name; the tensors may be the learner's own."""

    def begin_as(self, state: State) -> None:
        """Take over from ``state`` what its learner took from its first batch, on which all sums depend.

        Called before anything is learned; most learners take nothing.
        """
        del state

    def total(self) -> Mapping[str, Tensor]:
        """Return the sums over all samples: the same bits for the same samples, in any order and batches.

        They differ from `sums` in a learner that keeps several.
        """
        return self.sums()


class Merges(Provides, KeepsSums):
    """A learner that knows nothing but exact sums over samples, which can be added and subtracted.

    The sums are whole numbers. So they are the same bits for the same samples, in any order and in batches
    of any size, learned by one learner or by several whose states are merged.
    """

    provides: ClassVar[Capability] = Capability.MERGES

    @abstractmethod
    def merge(self, state: State) -> None:
        """Add the sums in the state of a learner with the same layout, seed and options."""

    @abstractmethod
    def subtract(self, state: State) -> None:
        """Subtract the sums in the state of a learner with the same layout, seed and options.

        Raises NeverLearned, before the state changes, where fewer samples were learned than are to be
        subtracted.
        """


class Pool(Protocol):
    """The ranks: the processes that learn one model, as a learner sees them.

    All of them call the same methods in the same order, with tensors of equal shapes.
    """

    @property
    def rank(self) -> int:
        """The number of this rank, from 0 on."""

    @property
    def size(self) -> int:
        """The number of ranks."""

    @property
    def leads(self) -> bool:
        """Whether this is the rank that holds what all have learned."""

    def all_reduce(self, tensor: Tensor) -> None:
        """Replace ``tensor``, on every rank, by the sum over all ranks."""

    def broadcast(self, tensor: Tensor) -> None:
        """Replace ``tensor``, on every rank, by the leading one's."""

    def broadcast_bytes(self, given: bytes = b"") -> bytes:
        """Return the leading rank's ``given`` on every rank."""


class Pools(Provides):
    """A learner of which every rank has one, each learning other samples of the same stream.

    In a round every rank calls `learn`, or `skip` where it has no batch. There are two kinds of learners.
    Sums over samples are collected: between two calls of `pool`, a rank that does not lead holds what it
    learned since the first of them, and all predict, in `learn`, from what the leading rank last gave out
    with `share`. Steps are taken together: all ranks hold the same, and `pool` has nothing to move.
    """

    provides: ClassVar[Capability] = Capability.POOLS
    no_local_steps: ClassVar[str] = "its sums are added up exactly, so there is nothing to average"
    """Why ranks cannot take steps apart and average their weights later; empty for a learner that can."""

    exchanged_of_samples: ClassVar[str] = ""
    """What of single samples the ranks send each other; empty if it is nothing."""

    def check_pooling(self) -> None:
        """Raise InvalidSetting for options with which several ranks cannot learn it."""
        return

    @abstractmethod
    def join(self, pool: Pool) -> None:
        """Learn with the other ranks from now on; `learn` then solves nothing by itself.

        Raises InvalidSetting as `check_pooling` does.
        """

    def average_every(self, rounds: int) -> None:
        """Take steps apart from now on, and average the weights of all ranks after so many rounds.

        The default is for learners with a reason not to, `no_local_steps`.
        """
        raise NotImplementedError(f"{rounds} rounds apart: {self.no_local_steps}")

    @property
    def level(self) -> bool:
        """Whether a `pool` now changes nothing of what is learned later."""
        return True

    @abstractmethod
    def share(self, *, refresh: bool) -> None:
        """Give what `learn` predicts from to all ranks; with ``refresh``, compute it anew after a `pool`."""

    @abstractmethod
    def pool(self) -> None:
        """Let the leading rank hold what all have learned; others that hold sums begin anew."""

    def share_solution(self) -> None:
        """Let `predict_proba` be the leading rank's on every rank, until one of them learns: after a `pool`.

        The default is for learners whose ranks hold the same anyway.
        """
        return

    def skip(self) -> None:
        """Take part in a round without a batch, in place of `learn`; the default does nothing."""
        return  # sums need no other rank to be learned

    def refresh_due(self, others: int) -> bool:
        """Return whether what `learn` predicts from is out of date, and if so schedule the next refresh.

        The other ranks have learned ``others`` samples since the last `pool`. Asked on the leading rank,
        between two rounds. The default is for learners that predict from what they have learned.
        """
        del others
        return False


class Expires(Provides):
    """A learner that stores samples and can delete the oldest.

    It counts samples and reads no clock; the caller knows when each sample arrived. So a learner behaves
    identically in every run that expires the same samples at the same point of the stream.
    """

    provides: ClassVar[Capability] = Capability.EXPIRES

    @abstractmethod
    def expire(self, before: int) -> int:
        """Delete what is stored of the first ``before`` samples learned; return how many were stored.

        Their memory is overwritten. The remaining ones stay a uniform sample of those learned later. What the
        weights have learned from the deleted samples stays.
        """
