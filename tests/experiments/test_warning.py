"""The early warning is measured from the switch on, and against a loss that was measured as well."""

import json

import pytest

from lethe.experiments.anatomy.warning import WarnedSwitch
from tests.support.commands import Lethe

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("warned", "lost", "in_time"),
    [(64, 128, True), (128, 128, False), (None, 128, False), (None, None, True), (64, None, True)],
)
def test_a_warning_is_in_time_if_it_comes_first_or_nothing_is_lost(
    warned: int | None, lost: int | None, in_time: bool
) -> None:
    assert WarnedSwitch("s", "old", warned, None, lost).in_time == in_time


def test_a_learner_without_a_network_is_rejected(lethe: Lethe) -> None:
    assert "trains no network" in lethe.refuses("bench", "warning", "--learner", "ncm")


@pytest.mark.needs("datasets")
def test_a_surge_precedes_the_loss(lethe: Lethe) -> None:
    arguments = ("--scenario", "mnist-to-fashion", "--scenario", "mnist", "--samples", "4480")
    done = lethe("bench", "warning", *arguments, "--json")
    found = json.loads(done.stdout)
    (switch,) = found["mnist-to-fashion"]["switches"]
    assert switch["old"] == "mnist"
    assert switch["warned"] == 64, "by the first batch"
    assert switch["warned"] < switch["lost"]
    assert found["mnist"] == {"switches": [], "false_alarms": [], "samples": 4480}
