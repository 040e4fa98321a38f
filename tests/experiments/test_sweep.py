"""Every option of every learner is swept, or listed with the reason why not."""

import pytest

from lethe.learners.registry import LEARNERS
from lethe.learners.state import JSON
from tests.benchmarks.sweep import ELSEWHERE, VALUES, Sweep, default, row

TRIED = [(learner, option) for learner, options in VALUES.items() for option in options]


@pytest.mark.parametrize("learner", LEARNERS)
def test_every_option_is_tried_or_it_is_said_why_not(learner: str) -> None:
    options = set(LEARNERS[learner].Options.model_fields)
    tried = set(VALUES.get(learner, ()))
    assert tried <= options
    for option in options:
        elsewhere = {option, f"{learner}.{option}"} & ELSEWHERE.keys()
        assert bool(elsewhere) is not (option in tried) or (learner, option) == ("finetune", "lr"), option


def test_every_option_that_is_not_swept_exists() -> None:
    there = {
        name
        for learner, kind in LEARNERS.items()
        for option in kind.Options.model_fields
        for name in (option, f"{learner}.{option}")
    }
    assert ELSEWHERE.keys() <= there


@pytest.mark.parametrize(("learner", "option"), TRIED)
def test_the_default_is_between_values_that_learners_take(learner: str, option: str) -> None:
    values = VALUES[learner][option]
    assert default(learner, option) in values[1:-1]
    numbers = [float(str(value)) for value in values]
    assert numbers == sorted(numbers)
    for value in values:
        LEARNERS[learner].Options.of({option: value})


def test_each_value_but_the_default_is_a_trial_of_its_own() -> None:
    assert list(Sweep(("ncm", "agem"), 100, 1).trials()) == [
        ("ncm", {}),
        ("ncm", {"waves": 500}),
        ("ncm", {"waves": 2000}),
        ("agem", {}),
        ("agem", {"rehearsed": 32}),
        ("agem", {"rehearsed": 128}),
    ]


def test_a_row_shows_each_value_and_the_default_in_bold() -> None:
    found: dict[tuple[str, JSON], float] = {("waves", 500): 0.5, ("waves", 2000): 0.75}
    assert row("ncm", "waves", found, 0.625) == (
        "| `ncm` | `waves` | 500: 0.500 · **1000: 0.625** · 2000: 0.750 |"
    )
