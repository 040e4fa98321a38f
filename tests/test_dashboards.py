"""The dashboards as people see them: what is on them, and where."""

import json
from typing import Any

import pytest

from deploy.grafana.generate import FOLDER, documents
from tests.watching import dashboards, panels

PANELS = [(board["uid"], panel) for board in dashboards() for panel in panels(board)]
QUESTIONS = ["Is it forgetting?", "Is it keeping up?", "Is it keeping anything?", "Is it alive?"]

WITHOUT_LIMITS = {
    "Throughput": "the stream's rate is the producer's affair",
    "Position in each partition": "grows for ever",
    "What became of the records": "counts since the beginning, good and bad in one panel",
    "Windowed forgetting and plasticity": "the one should be small and the other large",
    "Checkpoints": "counts since the beginning",
    "Predictions asked for": "how many is their clients' affair",
    "Boundaries, judged": "counts since the beginning, good and bad in one panel",
    "Regime": "a number, neither good nor bad",
    "Regimes, judged": "counts since the beginning, good and bad in one panel",
    "Cores in use": "as many as there are is good",
    "Segment": "a number, neither good nor bad",
    "Receipts in the ledger": "grows for ever",
    "Kept samples": "as many as the learner was given room for",
    "Ledger head": "a hash",
    "Accuracy on each probe: $service": "its limit is a curve of its own, the floor",
}
"""Panels on which no value is good or bad, and why."""


def test_the_committed_files_are_what_the_program_writes() -> None:
    assert {file.name: file.read_text() for file in FOLDER.glob("*.json")} == documents(), "make dashboards"


def test_addresses_of_dashboards_never_change() -> None:
    assert {board["uid"]: board["title"] for board in dashboards()} == {
        "lethe-forgetting": "Lethe: Forgetting",
        "lethe-stream": "Lethe: Stream and service",
        "lethe-privacy": "Lethe: Privacy",
    }


@pytest.mark.parametrize("board", dashboards(), ids=lambda board: board["uid"])
def test_each_dashboard_begins_with_four_questions(board: dict[str, Any]) -> None:
    first = board["panels"][:4]
    assert [panel["title"] for panel in first] == QUESTIONS
    assert {panel["type"] for panel in first} == {"stat"}
    assert {panel["gridPos"]["y"] for panel in first} == {0}


@pytest.mark.parametrize("board", dashboards(), ids=lambda board: board["uid"])
def test_services_can_be_chosen_and_switches_are_marked(board: dict[str, Any]) -> None:
    _, variable = board["templating"]["list"]
    assert (variable["name"], variable["multi"], variable["includeAll"]) == ("service", True, True)
    (marks,) = board["annotations"]["list"]
    assert marks["titleFormat"] == "{{segment}}"
    assert "lethe_segment_info" in marks["expr"]


def test_services_stand_side_by_side() -> None:
    repeated = {panel["title"] for _, panel in PANELS if panel.get("repeat") == "service"}
    assert repeated == {
        "Accuracy on each probe: $service",
        "R after each segment: $service",
        "Accuracy class by class: $service",
    }


@pytest.mark.parametrize(
    ("uid", "panel"), PANELS, ids=lambda value: value if isinstance(value, str) else value["title"]
)
def test_a_panel_explains_itself(uid: str, panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert "$service" in json.dumps(panel["targets"])
    defaults = panel["fieldConfig"]["defaults"] if "fieldConfig" in panel else {}
    if panel["type"] == "table" and "unit" not in defaults:
        return  # words, not numbers
    assert defaults["unit"]
    assert ("thresholds" in defaults) == (panel["title"] not in WITHOUT_LIMITS)


def test_no_panel_covers_another() -> None:
    for board in dashboards():
        taken = [
            (x, y)
            for box in (panel["gridPos"] for panel in board["panels"])
            for x in range(box["x"], box["x"] + box["w"])
            for y in range(box["y"], box["y"] + box["h"])
        ]
        assert len(taken) == len(set(taken)), board["uid"]
        assert max(x for x, _ in taken) < 24


def test_a_learner_that_stands_still_is_told_from_one_that_has_nothing_to_learn() -> None:
    for board in dashboards():
        (panel,) = (panel for panel in panels(board) if panel["title"] == "Is it keeping up?")
        (mapping,) = panel["fieldConfig"]["defaults"]["mappings"]
        words = {value: (shown["text"], shown["color"]) for value, shown in mapping["options"].items()}
        assert words == {"Infinity": ("stalled", "red"), "NaN": ("nothing waits", "blue")}
        assert panel["options"]["reduceOptions"]["calcs"] == ["last"]  # lastNotNull may pass over NaN
