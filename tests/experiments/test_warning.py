"""The early warning is measured from the switch on, and against a loss that was measured as well."""

import json
from pathlib import Path
from typing import Final

import pytest

from lethe.experiments.anatomy.warning import WarnedSwitch
from tests.support.commands import Lethe

pytestmark = pytest.mark.usefixtures("one_thread")

UNREADABLE: Final = """
name: unreadable
description: A fifth of the records of the first segment cannot be read.
segments:
  - {subject: mnist, dataset: mnist, malformed: 0.2}
  - {subject: fashion-mnist, dataset: fashion-mnist}
"""


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


@pytest.mark.long
@pytest.mark.needs("datasets")
def test_a_surge_precedes_the_loss(lethe: Lethe) -> None:
    arguments = ("--scenario", "mnist-to-fashion", "--scenario", "mnist", "--samples", "4480")
    done = lethe("bench", "warning", *arguments, "--json")
    found = json.loads(done.stdout)
    (run,) = found["mnist-to-fashion"]
    (switch,) = run["switches"]
    assert switch["old"] == "mnist"
    assert switch["warned"] == 64, "by the first batch"
    assert switch["warned"] < switch["lost"]
    assert found["mnist"] == [{"switches": [], "false_alarms": [], "samples": 4480}]


@pytest.mark.needs("datasets")
def test_several_seeds_are_shown_by_their_extent(lethe: Lethe) -> None:
    arguments = ("--scenario", "mnist-to-fashion", "--samples", "640", "--seeds", "2")
    found = json.loads(lethe("bench", "warning", *arguments, "--json").stdout)["mnist-to-fashion"]
    assert len(found) == 2
    shown = lethe("bench", "warning", *arguments, "--markdown").stdout.splitlines()
    assert shown[0].startswith("| scenario | old probe | the loss surges |")
    cells = [cell.strip() for cell in shown[2].strip("|").split("|")]
    assert cells[:2] == ["mnist-to-fashion", "mnist"]
    lost = [run["switches"][0]["lost"] for run in found]
    assert cells[4] == (f"{min(lost)}" if lost[0] == lost[1] else f"{min(lost)} to {max(lost)}")
    assert cells[6].endswith(" of 2")
    assert shown[-1] == "mnist-to-fashion: 0 false alarms in 2,560 samples"


@pytest.mark.needs("datasets")
def test_samples_count_from_the_switch_although_records_before_it_were_malformed(
    lethe: Lethe, tmp_path: Path
) -> None:
    scenario = tmp_path / "unreadable.yaml"
    scenario.write_text(UNREADABLE)
    done = lethe("bench", "warning", "--scenario", str(scenario), "--samples", "1000", "--json")
    (found,) = json.loads(done.stdout)["unreadable"]
    assert found["samples"] == 1800
    assert 0 < found["switches"][0]["detected"] <= 192
