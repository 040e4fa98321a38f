"""The learners of tests that take seconds for each: some in every run, the others by ``make test-long``."""

from typing import Final

import pytest
from _pytest.mark import ParameterSet

from lethe.learners.registry import LEARNERS

__all__ = ["EVERY_LEARNER", "IN_GROUPS", "TWO_OFTEN"]

_FOUR: Final = ("finetune", "replay", "experts", "dp-ridge")
"""One of gradients, one that stores samples, one whose sums add regimes, and a private one."""


def _often(*names: str) -> list[str | ParameterSet]:
    """Return every learner; those not in ``names`` are marked as long."""
    return [name if name in names else pytest.param(name, marks=pytest.mark.long) for name in LEARNERS]


EVERY_LEARNER: Final = _often(*_FOUR)
"""In every run one of each kind."""
IN_GROUPS: Final = [
    pytest.param(_FOUR, id="four"),
    pytest.param([name for name in LEARNERS if name not in _FOUR], marks=pytest.mark.long, id="others"),
]
"""For tests in which several learners run at the same time: in every run one of each kind."""
TWO_OFTEN: Final = _often("finetune", "dp-ridge")
"""For tests that take half a minute for each: in every run a network, and sums with random numbers."""
