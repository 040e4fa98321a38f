"""The base of differentially private learners: a budget, and an accountant of what is spent.

ε counts releases: noisy sums over records, from which everything that is published is computed. The account
is correct as long as a record takes part in no more releases than are counted for it:

- A stream is read once, and each record is in one batch. So a record takes part in one release, and a person
  in at most ``appearances`` releases.
- A crash discards what was learned since the newest checkpoint, and those records are learned again, possibly
  in different batches. The service therefore publishes nothing computed from a release before a checkpoint
  with that release is on the disk (the output commit of rollback recovery: Elnozahy, Alvisi, Wang & Johnson
  2002, A Survey of Rollback-Recovery Protocols). What was discarded was never released and costs nothing.
- Where a published release is lost all the same, because the newest checkpoint cannot be read or was rolled
  back, its records are released once more. `PrivateLearner.record_rollback` counts that: from the next batch
  on, a person can be in ``appearances`` releases of each branch of the run.
- Secret noise is never drawn twice (`RatchetNoise`). So two releases have independent noise, whichever
  records they share, and their costs add up as in `accounting`.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from pydantic import Field

from lethe.errors import BudgetSpent, InvalidSetting
from lethe.learners.base import Learner, LearnerContext
from lethe.learners.capabilities import Capability, Provides
from lethe.learners.private.accounting import composed, epsilon_of, mu_of
from lethe.learners.private.noise import RatchetNoise
from lethe.learners.state import JSON
from lethe.learners.vector_scale import VectorOptions

__all__ = ["Privacy", "PrivacyAccountant", "PrivateLearner", "PrivateOptions"]

_ROUNDING: Final = 1 + 1e-9  # tolerance of a budget, which calibrated noise spends to the last bit


@dataclass(frozen=True, slots=True)
class Privacy:
    """The privacy cost of a learner's releases so far, and whether the budget allows another one."""

    epsilon: float
    """Spent so far, at ``delta``; if ``simulated``, the cost with secret noise."""
    delta: float
    budget: float
    """The ε that can be spent in total."""
    spent: bool
    """Whether another batch would exceed the budget; it must not be learned then."""
    simulated: bool = False
    """Whether the noise is seeded: anyone with the seed can remove it, so that no ε is guaranteed."""


class PrivateOptions(VectorOptions):
    """The options of every differentially private learner."""

    epsilon: float = Field(default=8.0, gt=0)
    """The budget ε: learning ends before more than this is spent."""
    delta: float = Field(default=1e-5, gt=0, lt=1)
    """δ of the guarantee; choose it well below one over the number of records."""
    appearances: int = Field(default=1, ge=0)
    """Most releases in which one person has a record; 0 for any number, with which ε grows with each."""
    noise_multiplier: float | None = Field(default=None, gt=0)
    """Standard deviation of the noise over the sensitivity; by default the least within the budget."""
    noise: Literal["seeded", "secret"] = "seeded"
    """secret draws the noise from the operating system. seeded makes runs repeatable for anyone with the
    seed: it gives no privacy, and the ε that is counted is a simulation."""

    def draw(self, seed: int) -> RatchetNoise:
        """Return the source of noise."""
        return RatchetNoise.from_system() if self.noise == "secret" else RatchetNoise.seeded(seed)


class PrivacyAccountant:
    """Counts releases, each a sum over disjoint records with discrete Gaussian noise, and their cost.

    ``deviation`` is the standard deviation of the noise over the sensitivity. Raises InvalidSetting where a
    person can be in any number of releases and no noise multiplier is given.
    """

    def __init__(self, chosen: PrivateOptions) -> None:
        self._chosen = chosen
        if chosen.noise_multiplier is not None:
            self.deviation = chosen.noise_multiplier
        elif chosen.appearances:
            self.deviation = math.sqrt(chosen.appearances) / mu_of(chosen.epsilon, chosen.delta)
        else:
            raise InvalidSetting(
                "learner.options.noise_multiplier: required where appearances is 0, "
                "since no noise keeps an unbounded number of releases within a budget"
            )
        self._lost = self._repeats = 0
        self._repeating = False

    def privacy(self, releases: int, after: int) -> Privacy:
        """Return the cost of ``releases``; the budget is spent if ``after`` releases would exceed it."""
        chosen = self._chosen
        beyond = self._epsilon(after, self._repeats + self._repeating) > chosen.epsilon * _ROUNDING
        spent = self._epsilon(releases, self._repeats)
        return Privacy(spent, chosen.delta, chosen.epsilon, beyond, chosen.noise == "seeded")

    def record_rollback(self, releases: int, ways: int = 1) -> None:
        """Count that the state was rolled back behind ``releases``, published on ``ways`` branches."""
        self._lost += releases
        # on each branch the same records may have been released; the first one repeats if that is due
        self._repeats += self._repeating + ways - 1
        self._repeating = True

    def released(self) -> None:
        """Count that a batch is learned: after a rollback its records are released again."""
        self._repeats += self._repeating
        self._repeating = False

    def values(self) -> dict[str, JSON]:
        """Return the releases lost by rollbacks, and the number of repetitions, as part of a state."""
        return {"lost_releases": self._lost, "repeats": self._repeats, "repeating": self._repeating}

    def load_values(self, values: Mapping[str, JSON]) -> None:
        """Load `values`; a state without them has lost nothing."""
        self._lost, self._repeats = (int(str(values.get(name, 0))) for name in ("lost_releases", "repeats"))
        self._repeating = bool(values.get("repeating", False))

    def _epsilon(self, releases: int, repeats: int) -> float:
        releases += self._lost
        counted = min(releases, self._chosen.appearances * (1 + repeats) or releases)
        return epsilon_of(composed(1 / self.deviation, counted), self._chosen.delta)


class PrivateLearner(Learner, Provides):
    """A learner whose releases are (ε, δ)-differentially private, and which reports their cost."""

    Options: ClassVar[type[PrivateOptions]] = PrivateOptions
    provides: ClassVar[Capability] = Capability.PRIVATE
    lacks: ClassVar[Mapping[Capability, str]] = {
        Capability.UNLEARNS: (
            "noise hides each sample in its state, and a second state without the sample would reveal it"
        ),
        Capability.POOLS: "its privacy is accounted for in one process",
    }

    def __init__(self, context: LearnerContext) -> None:
        chosen = self.Options.of(context.options)
        self._accountant, self._noise = PrivacyAccountant(chosen), chosen.draw(context.seed)

    @property
    def secret(self) -> bool:
        """Whether its noise is secret: a release must then be in a checkpoint before it is published."""
        return self._noise.secret

    @abstractmethod
    def privacy(self) -> Privacy:
        """Return the privacy cost so far."""

    def record_rollback(self, releases: int, ways: int = 1) -> None:
        """Record, after `load_state`, that later states were published, with so many more ``releases``.

        ``ways`` is the number of times the run has continued from this state and was rolled back to it.
        """
        self._accountant.record_rollback(releases, ways)

    def _check_budget(self) -> None:
        """Raise BudgetSpent, before a batch is learned, when it would exceed the budget."""
        privacy = self.privacy()
        if privacy.spent:
            raise BudgetSpent(
                f"one more batch would cost more than the budget of ε = {privacy.budget:g} "
                f"at δ = {privacy.delta:g}"
            )
