"""The contents and layout of the dashboards."""

import json
import re
from typing import Any

import pytest

from deploy.grafana.generate import FOLDER, documents
from tests.support.monitoring import dashboards, panels

PANELS = [(board["uid"], panel) for board in dashboards() for panel in panels(board)]
QUESTIONS = [
    "Is it forgetting?",
    "Forgetting budget left",
    "Is it learning?",
    "Is it keeping up?",
    "Is it keeping anything?",
    "Is it alive?",
]

COUNT = "a count or a number, neither good nor bad"
WITHOUT_LIMITS = {
    "Samples learned per second": "the stream's rate is the producer's affair",
    "Records received per second": "the same",
    "Samples with a late label per second": "the stream's rate is the producer's affair",
    "Late labels dropped per second": "how many labels are of other samples is the producer's affair",
    "Lag": "its limit is in seconds: Is it keeping up?",
    "Lag by partition: $service": "the same",
    "Offset by partition: $service": "only grows",
    "Moved between ranks": "as much as the network can carry",
    "Lag by rank: $service": "the same",
    "Learned by rank: $service": "the stream's rate is the producer's affair",
    "Time spent learning by rank: $service": "the more, the better; a rank with records does nothing else",
    "Record outcomes": "counts since the beginning, good and bad in one panel",
    "Forward transfer": "of what is not taught yet, anything is good",
    "Windowed plasticity": "how large it should be depends on the data",
    "Checkpoints written": COUNT,
    "Prediction requests": "how many is their clients' affair",
    "Images asked about per second": "how many follows from --images, --sample and --every",
    "Boundary detection": "counts since the beginning, good and bad in one panel",
    "Boundaries detected": COUNT,
    "Regime": COUNT,
    "Regime recognition": "counts since the beginning, good and bad in one panel",
    "Gradient length": "how long it should be depends on the network and the data",
    "Speed of the weights": "the same",
    "Turn of the weights": "the same",
    "Gradient interference": "the same",
    "Cores in use": "as many as there are is good",
    "Segment": COUNT,
    "Segments: $service": "names",
    "Size of the newest checkpoint": "the learner's affair",
    "Time since the last evaluation": "evaluations come with samples, not with time",
    "Receipts in the ledger": "only grows",
    "Receipts that the witness lacks": "as many as there are between two checkpoints",
    "Stored samples": "as many as the learner was given room for",
    "Ledger head": "a hash",
    "Dead letters by reason": "counts since the beginning; the share has limits",
    "Accuracy on each probe: $service": "its limit is a curve of its own, the floor",
    "R after each segment: $service": "what is not taught yet is small, and not bad",
    "Accuracy by class: $service": "the same",
}
"""Panels without limits, and why."""


def test_the_committed_files_are_what_the_program_writes() -> None:
    assert {file.name: file.read_text() for file in FOLDER.glob("*.json")} == documents(), "make dashboards"


def test_addresses_of_dashboards_never_change() -> None:
    assert {board["uid"]: board["title"] for board in dashboards()} == {
        "lethe-overview": "Lethe: Overview",
        "lethe-forgetting": "Lethe: Forgetting",
        "lethe-stream": "Lethe: Stream and service",
        "lethe-privacy": "Lethe: Privacy",
    }


@pytest.mark.parametrize("board", dashboards(), ids=lambda board: board["uid"])
def test_each_dashboard_begins_with_its_questions_and_the_firing_alerts(board: dict[str, Any]) -> None:
    titles = [panel["title"] for panel in board["panels"]]
    if board["uid"] == "lethe-overview":
        assert titles[:2] == ["Services", "Firing alerts"]
        return
    assert titles[:6] == QUESTIONS
    assert {(panel["type"], panel["gridPos"]["y"]) for panel in board["panels"][:6]} == {("stat", 0)}
    assert "Firing alerts" in titles[6:8]


@pytest.mark.parametrize("board", dashboards(), ids=lambda board: board["uid"])
def test_services_can_be_chosen_and_alerts_and_restarts_are_marked(board: dict[str, Any]) -> None:
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert list(variables) == ["datasource", "service", "runbook"]
    assert (variables["service"]["multi"], variables["service"]["includeAll"]) == (True, True)
    assert [marks["name"] for marks in board["annotations"]["list"]] == ["Alerts", "Restarts"]
    repeated = {panel["id"] for panel in panels(board) if "$service" in panel["title"]}
    for marks in board["annotations"]["list"]:
        assert marks["filter"]["exclude"] is False
        assert not repeated & set(marks["filter"]["ids"]), "another service's marks would be shown"


def test_what_is_of_one_service_is_repeated_for_each() -> None:
    repeated = set()
    for board in dashboards():
        within = None
        for panel in board["panels"]:
            if panel["type"] == "row":
                within = panel.get("repeat")
            for one in panel.get("panels", [panel]):
                if (one.get("repeat") or within) and one["type"] != "row":
                    repeated.add(one["title"])
    assert repeated == {panel["title"] for _, panel in PANELS if "$service" in panel["title"]}
    assert "Accuracy on each probe: $service" in repeated


def test_a_service_has_one_curve_in_a_panel_of_all_services() -> None:
    for uid, panel in PANELS:
        if panel["type"] != "timeseries" or "$service" in panel["title"]:
            continue
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert legends[0] == "{{service}}", f"{uid}: {panel['title']}"
        assert not any("{{" in legend for legend in legends[1:])
        assert "NaN * max by (service) (lethe_build_info" in panel["targets"][0]["expr"]


def test_lines_of_limits_are_drawn_and_visible() -> None:
    for uid, panel in PANELS:
        defaults = panel["fieldConfig"]["defaults"]
        if panel["type"] != "timeseries" or "thresholds" not in defaults:
            continue
        place = f"{uid}: {panel['title']}"
        nothing, *limits = defaults["thresholds"]["steps"]
        assert nothing["color"] == "transparent", f"{place}: half of the panel would be painted"
        assert {limit["color"] for limit in limits} <= {"orange", "red"}, place
        low, high = (
            defaults.get(end, defaults["custom"].get(soft))
            for end, soft in (("min", "axisSoftMin"), ("max", "axisSoftMax"))
        )
        assert all(low <= limit["value"] <= high for limit in limits), place


@pytest.mark.parametrize(
    ("uid", "panel"), PANELS, ids=lambda value: value if isinstance(value, str) else value["title"]
)
def test_a_panel_explains_itself(uid: str, panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert "$service" in json.dumps(panel["targets"])
    defaults = panel["fieldConfig"]["defaults"]
    if panel["type"] == "table" and "unit" not in defaults:
        return  # each column has its own
    if panel["type"] != "state-timeline":
        assert defaults["unit"]
    assert ("thresholds" in defaults) == (panel["title"] not in WITHOUT_LIMITS)


def test_every_panel_without_limits_is_listed() -> None:
    assert set(WITHOUT_LIMITS) <= {panel["title"] for _, panel in PANELS}


def test_links_lead_to_dashboards_and_to_the_runbook() -> None:
    uids = {board["uid"] for board in dashboards()}
    links = re.findall(r'"url": "([^"]+)"', json.dumps(dashboards()))
    boards = {link.split("?")[0].removeprefix("/d/") for link in links if link.startswith("/d/")}
    assert boards <= uids
    assert {"lethe-forgetting", "lethe-stream", "lethe-privacy"} <= boards
    assert all("var-service=" in link for link in links if link.startswith("/d/"))
    assert {link for link in links if not link.startswith("/d/")} == {"${runbook}#${__value.raw}"}


def test_no_panel_covers_another() -> None:
    for board in dashboards():
        inside = [panel["panels"] for panel in board["panels"] if panel.get("panels")]
        for placed in (board["panels"], *inside):
            no_overlap(placed, board["uid"])


def no_overlap(placed: list[dict[str, Any]], uid: str) -> None:
    taken = [
        (x, y)
        for box in (panel["gridPos"] for panel in placed)
        for x in range(box["x"], box["x"] + box["w"])
        for y in range(box["y"], box["y"] + box["h"])
    ]
    assert len(taken) == len(set(taken)), uid
    assert max(x for x, _ in taken) < 24


def test_a_stalled_learner_is_distinguished_from_an_idle_one() -> None:
    shown = [panel for _, panel in PANELS if panel["title"] == "Is it keeping up?"]
    assert len(shown) == len(dashboards()) - 1
    for panel in shown:
        (mapping,) = panel["fieldConfig"]["defaults"]["mappings"]
        words = {value: (shown["text"], shown["color"]) for value, shown in mapping["options"].items()}
        assert words == {"Infinity": ("stalled", "red"), "NaN": ("idle", "blue")}
        assert panel["options"]["reduceOptions"]["calcs"] == ["last"]  # lastNotNull may pass over NaN
