"""The learners of tests that take seconds for each: some in every run, the others by ``make test-long``."""

from typing import Final

import pytest
from _pytest.mark import ParameterSet

from lethe.learners.registry import LEARNERS

__all__ = ["EVERY_LEARNER", "TWO_OFTEN"]


def _often(*names: str) -> list[str | ParameterSet]:
    """Return every learner; those not in ``names`` are marked as long."""
    return [name if name in names else pytest.param(name, marks=pytest.mark.long) for name in LEARNERS]


EVERY_LEARNER: Final = _often("finetune", "replay", "experts", "dp-ridge")
"""In every run one of gradients, one that stores samples, one whose sums add regimes, and a private one."""
TWO_OFTEN: Final = _often("finetune", "dp-ridge")
"""For tests that take half a minute for each: in every run a network, and sums with random numbers."""
