"""What differentially private learners have in common: a budget, and an account of what is spent."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field

from service.learners import options
from service.learners.base import Learner
from service.learners.noise import RatchetNoise

__all__ = ["Privacy", "PrivateLearner", "PrivateOptions"]


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
    noise: Literal["seeded", "secret"] = "seeded"
    """secret draws it from the operating system; seeded runs can be repeated, by whoever knows the seed."""

    def draw(self, seed: int) -> RatchetNoise:
        """Return where the noise comes from."""
        return RatchetNoise.secret() if self.noise == "secret" else RatchetNoise.seeded(seed)


class PrivateLearner(Learner):
    """A learner whose releases are (ε, δ)-differentially private; it says how much they have cost.

    Its ``learn`` raises BudgetSpent, before anything changes, once `privacy` says ``spent``.
    """

    Options: ClassVar[type[options.Options]] = PrivateOptions

    @abstractmethod
    def privacy(self) -> Privacy:
        """Return what was spent until now."""
