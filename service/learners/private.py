"""What differentially private learners have in common: a budget, and an account of what is spent."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from pydantic import Field

from service.errors import BudgetSpent, InvalidSetting
from service.learners import options
from service.learners.accounting import composed, epsilon_of, mu_of
from service.learners.base import Learner
from service.learners.noise import RatchetNoise

__all__ = ["Account", "Privacy", "PrivateLearner", "PrivateOptions"]

_ROUNDING: Final = 1 + 1e-9  # of a budget: noise that is calibrated to it spends it to the last bit


@dataclass(frozen=True, slots=True)
class Privacy:
    """What the releases of a learner have cost so far, and whether they may go on."""

    epsilon: float
    """Spent so far, at ``delta``."""
    delta: float
    budget: float
    """The ε that may be spent in all."""
    spent: bool
    """Another batch would go beyond the budget: it must not be learned."""


class PrivateOptions(options.Options):
    """What a user chooses about any differentially private learner."""

    epsilon: float = Field(default=8.0, gt=0)
    """The budget: learning ends before more than this ε is spent."""
    delta: float = Field(default=1e-5, gt=0, lt=1)
    """δ of the guarantee; well below one over the number of records."""
    appearances: int = Field(default=1, ge=0)
    """Releases that one person has a record in, one in each; 0: any number, and ε grows with each."""
    noise_multiplier: float | None = Field(default=None, gt=0)
    """Deviation of the noise over what one record can change; without it, the least within the budget."""
    noise: Literal["seeded", "secret"] = "seeded"
    """secret draws it from the operating system; seeded runs can be repeated, by whoever knows the seed."""

    def draw(self, seed: int) -> RatchetNoise:
        """Return where the noise comes from."""
        return RatchetNoise.secret() if self.noise == "secret" else RatchetNoise.seeded(seed)


class Account:
    """Counts releases, each the sum of disjoint records under Gaussian noise, and what they cost a person.

    ``deviation`` is that of the noise, over the most that one record can change. Raises
    InvalidSetting where a person may be in any number of releases, and nobody says how much noise.
    """

    def __init__(self, chosen: PrivateOptions) -> None:
        self._chosen = chosen
        if chosen.noise_multiplier is not None:
            self.deviation = chosen.noise_multiplier
        elif chosen.appearances:
            self.deviation = math.sqrt(chosen.appearances) / mu_of(chosen.epsilon, chosen.delta)
        else:
            raise InvalidSetting(
                "learner.options.noise_multiplier: needed where appearances is 0, "
                "for no noise is enough for ever"
            )

    def privacy(self, releases: int, after: int) -> Privacy:
        """Return what ``releases`` have cost; it is all spent if ``after`` would cost too much."""
        chosen = self._chosen
        beyond = self._epsilon(after) > chosen.epsilon * _ROUNDING
        return Privacy(self._epsilon(releases), chosen.delta, chosen.epsilon, beyond)

    def _epsilon(self, releases: int) -> float:
        counted = min(releases, self._chosen.appearances or releases)
        return epsilon_of(composed(1 / self.deviation, counted), self._chosen.delta)


class PrivateLearner(Learner):
    """A learner whose releases are (ε, δ)-differentially private; it says how much they have cost."""

    Options: ClassVar[type[PrivateOptions]] = PrivateOptions
    why_not_unlearn: ClassVar[str] = (
        "noise hides each sample in what it keeps, and to take one out would show it to whoever has both"
    )

    @abstractmethod
    def privacy(self) -> Privacy:
        """Return what was spent until now."""

    def _check_budget(self) -> None:
        """Raise BudgetSpent, before a batch is learned, when it would cost more than is left."""
        privacy = self.privacy()
        if privacy.spent:
            raise BudgetSpent(
                f"one more batch would cost more than the budget of ε = {privacy.budget:g} "
                f"at δ = {privacy.delta:g}"
            )
