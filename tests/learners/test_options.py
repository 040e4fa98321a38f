"""A learner's options: defaults, values given by the user, and errors that name each wrong one."""

import pytest
from pydantic import Field

from lethe.errors import InvalidSetting
from lethe.learners.base import LearnerContext
from lethe.learners.options import Options
from lethe.learners.registry import LEARNERS, create
from lethe.wire import Layout


class StyxOptions(Options):
    depth: float = Field(default=1.0, gt=0)
    """How deep."""
    banks: list[int] = Field(default_factory=list)
    """How high each bank is."""


def test_an_option_that_is_not_given_has_its_default() -> None:
    assert StyxOptions.of({"depth": 2}) == StyxOptions(depth=2.0, banks=[])


def test_every_wrong_option_is_named() -> None:
    with pytest.raises(InvalidSetting) as caught:
        StyxOptions.of({"depth": 0, "banks": [1, "high"], "width": 3})
    said = str(caught.value).split("; ")
    assert said[0] == "learner.options.depth: Input should be greater than 0"
    assert said[1].startswith("learner.options.banks.1: Input should be a valid integer")
    assert said[2] == "learner.options.width: no such option, there are depth, banks"


def test_a_number_that_is_not_finite_is_refused() -> None:
    with pytest.raises(InvalidSetting, match=r"learner\.options\.depth"):
        StyxOptions.of({"depth": float("inf")})


def test_a_learner_without_options_says_so() -> None:
    with pytest.raises(
        InvalidSetting, match=r"learner\.options\.x: no such option, this learner has no options"
    ):
        Options.of({"x": 1})


def test_options_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        StyxOptions().depth = 3.0


@pytest.mark.parametrize("name", LEARNERS)
def test_no_learner_takes_an_option_that_it_does_not_have(name: str) -> None:
    with pytest.raises(InvalidSetting, match=r"learner\.options\.charon: no such option"):
        create(name, LearnerContext(Layout(), options={"charon": 1}))


@pytest.mark.parametrize("name", LEARNERS)
def test_every_option_has_a_default_and_says_what_it_does(name: str) -> None:
    kind = LEARNERS[name].Options
    assert kind.of({}) == kind.of(kind.of({}).model_dump(mode="json"))
    assert all(field.description for field in kind.model_fields.values())
