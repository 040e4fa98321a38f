"""The examples in the docstrings of learners run as printed."""

import doctest
from types import ModuleType

import pytest

from lethe.learners.analytic import ridge
from lethe.learners.gradient import finetune


@pytest.mark.parametrize("module", [ridge, finetune], ids=lambda module: module.__name__)
def test_the_example_of_a_learner_runs(module: ModuleType) -> None:
    tried = doctest.testmod(module)
    assert tried.attempted > 0
    assert tried.failed == 0
