"""A run takes the learner's own batch size and cadence of evaluations unless they are given."""

import pytest

from lethe.errors import InvalidSetting
from lethe.learners.registry import LEARNERS
from lethe.runtime.factories import with_learners_defaults
from lethe.runtime.run import load_inputs
from lethe.settings import Settings


@pytest.mark.parametrize("name", LEARNERS)
def test_each_learner_has_its_own(name: str) -> None:
    found = with_learners_defaults(Settings.read({"learner": {"name": name}}))
    assert found.batch.size == LEARNERS[name].batch_size
    assert found.evaluation.every == LEARNERS[name].evaluate_every


def test_what_is_given_stays_even_if_it_is_the_default_of_the_setting() -> None:
    given: dict[str, dict[str, object]] = {
        "learner": {"name": "ridge"},
        "batch": {"size": 64},
        "evaluation": {"every": 5000},
    }
    found = with_learners_defaults(Settings.read(given))
    assert (found.batch.size, found.evaluation.every) == (64, 5000)


def test_an_unknown_learner_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="styx"):
        with_learners_defaults(Settings.read({"learner": {"name": "styx"}}))


def test_a_run_uses_them() -> None:
    inputs = load_inputs(Settings.read({"learner": {"name": "ncm"}}))
    assert inputs.settings.batch.size == LEARNERS["ncm"].batch_size != Settings().batch.size
