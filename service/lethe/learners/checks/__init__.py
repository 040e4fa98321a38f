"""The checks of the learner contract, which every learner must pass."""

from lethe.learners.checks.contract import checks_for

__all__ = ["checks_for"]
