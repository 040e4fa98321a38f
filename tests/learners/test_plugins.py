"""Learners of other packages: found by their entry points, separate from the built-in ones."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from lethe.cli.learners import learners
from lethe.errors import InvalidSetting
from lethe.learners.base import LearnerContext
from lethe.learners.gradient.finetune import Finetune
from lethe.learners.registry import LEARNERS, create, find
from lethe.wire import Layout

LEARNER = """
from lethe.learners.gradient.finetune import Finetune

class Styx(Finetune):
    name = "{name}"
    summary = "underworld"
"""
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that installs a distribution of one module and one entry point."""

    def install(distribution: str, name: str, target: str, source: str = "") -> None:
        site = tmp_path / distribution
        about = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[lethe.learners]\n{name} = {target}\n")
        (site / f"{target.partition(':')[0]}.py").write_text(source)
        monkeypatch.syspath_prepend(site)

    return install


def test_a_learner_of_another_package_is_built_by_its_name(install: Install) -> None:
    install("river-styx", "styx", "styx_of_river:Styx", LEARNER.format(name="styx"))
    learner = create("styx", LearnerContext(Layout(), options={"lr": 0.1}))
    assert isinstance(learner, Finetune)
    assert learner.summary == "underworld"


def test_an_invalid_option_is_refused_by_name(install: Install) -> None:
    install("river-styx", "styx", "styx_of_options:Styx", LEARNER.format(name="styx"))
    with pytest.raises(InvalidSetting, match=r"learner\.options\.lr"):
        create("styx", LearnerContext(Layout(), options={"lr": -1}))


@pytest.mark.parametrize(
    ("target", "source", "why"),
    [
        (
            "styx_broken:Styx",
            "import no_such_module",
            "ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("styx_failing:Styx", "1 / 0", "ZeroDivisionError: division by zero"),
        ("styx_missing:Acheron", LEARNER.format(name="styx"), "AttributeError"),
        ("styx_number:Styx", "Styx = 3", "is not a lethe.Learner"),
        ("styx_other:Styx", LEARNER.format(name="acheron"), "has the name 'acheron'"),
        (
            "styx_half:Styx",
            "from lethe.learners.base import Learner\nclass Styx(Learner):\n    name = 'styx'\n",
            "lacks retains, summary, paper, __init__, learn, load_state, predict_proba, state",
        ),
    ],
)
def test_a_broken_learner_is_refused_with_its_distribution(
    install: Install, target: str, source: str, why: str
) -> None:
    install("river-styx", "styx", target, source)
    with pytest.raises(InvalidSetting, match=r"learner 'styx' of the distribution river-styx") as caught:
        find("styx")
    assert why in str(caught.value)


def test_a_broken_learner_does_not_affect_others(install: Install) -> None:
    install("river-styx", "styx", "styx_hinders:Styx", "1 / 0")
    assert find("finetune") is Finetune


def test_a_built_in_learner_cannot_be_replaced(install: Install) -> None:
    install("river-styx", "finetune", "styx_shadow:Styx", LEARNER.format(name="finetune"))
    assert find("finetune") is Finetune
    assert "'finetune' of river-styx: a built-in learner has that name" in shown()


def test_if_two_packages_offer_the_same_name_the_error_names_both(install: Install) -> None:
    install("river-styx", "styx", "styx_one:Styx", LEARNER.format(name="styx"))
    install("other-styx", "styx", "styx_two:Styx", LEARNER.format(name="styx"))
    with pytest.raises(InvalidSetting, match="'styx' is offered by other-styx and river-styx"):
        find("styx")


def test_the_list_shows_learners_of_other_packages_and_errors(install: Install) -> None:
    install("river-styx", "styx", "styx_listed:Styx", LEARNER.format(name="styx"))
    install("river-acheron", "acheron", "acheron_listed:Acheron", "1 / 0")
    assert "underworld" in shown()
    assert "learner 'acheron' of the distribution river-acheron" in shown()


def test_an_unknown_name_is_refused_with_a_list_of_all_learners(install: Install) -> None:
    install("river-styx", "styx", "styx_named:Styx", LEARNER.format(name="styx"))
    with pytest.raises(InvalidSetting, match=re.escape(f"there are {', '.join(LEARNERS)}, styx")):
        find("stix")


def shown() -> str:
    """Return what ``lethe learners`` prints."""
    app = Typer()
    app.command()(learners)
    return CliRunner().invoke(app, [], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
