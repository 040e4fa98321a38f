"""The learners of tests that take seconds for each: some in every run, the others by ``make test-long``."""

from typing import Final

import pytest
from _pytest.mark import ParameterSet

from lethe.learners.registry import LEARNERS

__all__ = ["EVERY_LEARNER"]

OFTEN: Final = {"finetune", "replay", "experts", "dp-ridge"}
"""One of gradients, one that stores samples, one of sums that adds regimes, and a private one."""
EVERY_LEARNER: Final[list[str | ParameterSet]] = [
    name if name in OFTEN else pytest.param(name, marks=pytest.mark.long) for name in LEARNERS
]
