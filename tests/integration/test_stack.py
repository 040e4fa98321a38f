"""The stack of deploy/stack.py, run on a short stream, as an operator and Grafana see it."""

import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from kafka import KafkaProducer
from playwright.sync_api import Browser

from lethe.probeset import save_probe
from lethe_producers.datasets import default_root
from lethe_producers.probes import probes_of
from lethe_producers.scenario import load_scenario
from tests.support.boards import Drawing, defects, draw
from tests.support.monitoring import dashboards, panels, queries, recorded, titles_of_row
from tests.support.prometheus import ask

pytestmark = [pytest.mark.needs("kafka", "prometheus", "datasets"), pytest.mark.timeout(900)]

CHECKOUT: Final = Path(__file__).parents[2]
INTERVAL: Final = 2
"""Seconds between two scrapes, and between two evaluations of the rules."""
SEGMENT: Final = int(os.environ.get("LETHE_TEST_SEGMENT", "4096"))
"""Samples of each segment, whole batches of either service: 59904 are nearly all there are."""
EVERY: Final = SEGMENT // 8
"""Samples between two evaluations."""
MALFORMED: Final = 7
BLANK: Final = {"content-type": "application/octet-stream", "dtype": "uint8", "shape": "1,28,28"}
OF_RANKS: Final = (
    "Round duration, 99th percentile",
    "Waited for by rank",
    "Collective operations by rank",
    "Time spent learning by rank",
    "Learned by rank",
    "Lag by rank",
)
"""Panels without data, as both services learn alone."""
OF_WATCHED: Final = titles_of_row("lethe-stream", "Watched models")
"""Panels without data, as both services learn."""
MAY_BE_EMPTY: Final = {
    "Firing alerts: A": {"ridge"},
    **{f"Forgotten now: {query}": {"ridge"} for query in "ABCD"},
    "Purge lag: B": {"finetune", "ridge"},
    "ε spent: A": {"finetune", "ridge"},
    "ε spent: B": {"finetune", "ridge"},
    "δ: A": {"finetune", "ridge"},
    "Receipts that the witness lacks: A": {"finetune", "ridge"},
    "Gradient length: A": {"ridge"},
    "Turn of the weights: A": {"ridge"},
    "Gradient interference: A": {"ridge"},
    "Alerts: annotation": {"ridge"},
    "Restarts: annotation": {"finetune", "ridge"},
    "Measured and estimated accuracy: $service: B": {"finetune", "ridge"},
    **{f"{panel}: A": {"finetune", "ridge"} for panel in OF_WATCHED},
    **{f"{panel}: A": {"finetune", "ridge"} for panel in OF_RANKS[:1]},
    **{f"{panel}: $service: A": {"finetune", "ridge"} for panel in OF_RANKS[1:]},
}
"""Queries without data in this run, and for which services: ridge forgets nothing and trains no network, no
policy sets a limit to the purge, neither learner is private, no heads are witnessed, no service is
restarted, none estimates its accuracy, and none is only watched."""
EMPTY: Final = {"ε spent", "δ", "Receipts that the witness lacks", *OF_RANKS, *OF_WATCHED}
"""Panels without data in this run, for the same reasons."""
TABLES: Final = {
    "Services": (
        "Service",
        "Learner",
        "Segment",
        "Forgets",
        "Worst probe",
        "Budget left",
        "Learns",
        "Evaluated ago",
        "Lag",
        "Keeps",
        "Alive",
        "Alerts",
    ),
    "Firing alerts": ("Severity", "Service", "Alert", "Count"),
    "Forgotten now": ("Service", "Probe", "Lost", "Since", "Left", "Noise ±"),
    "R after each segment": ("after segment", "1 mnist", "2 fashion-mnist"),
    "Accuracy by class": ("class", "fashion-mnist", "mnist"),
    "Time within the floor": ("Service", "1 hour", "1 day", "30 days", "Budget left"),
    "Record outcomes": ("service", "dead lettered", "learned", "lost", "received", "unlabelled"),
    "Boundary detection": ("service", "awaited", "false alarms", "found", "missed"),
    "Regime recognition": ("service", "mistaken", "recognised", "unrecognised"),
    "Retention of each learner": ("Service", "Learner", "Retains", "Version"),
    "Dead letters by reason": ("service", "missing header"),
}
"""The columns of each table."""


@dataclass
class Running:
    """A stack in which everything has been learned."""

    addresses: dict[str, str]
    started: float
    ended: float
    """The time of the last query; later than ``learned`` by as long as some recordings take."""
    learned: float
    """The time at which both services had learned the stream and the alerts had been evaluated."""
    process: subprocess.Popen[str]

    def ask(self, path: str, **parameters: Any) -> Any:
        return ask(self.addresses["prometheus"], path, **parameters)

    def over_time(self, expr: str, step: float = INTERVAL) -> list[list[tuple[float, float]]]:
        """For each series, its values from the first to the last second."""
        found = self.ask("query_range", query=expr, start=self.started, end=self.ended, step=step)["result"]
        return [[(when, float(value)) for when, value in series["values"]] for series in found]

    def curve(self, expr: str) -> list[tuple[float, float]]:
        (series,) = self.over_time(expr, step=0.5)
        return series


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("stack")
    for order, probe in enumerate(probes_of(load_scenario("mnist-to-fashion"), default_root())):
        small = replace(probe, x_NCHW=probe.x_NCHW[:500], y_N=probe.y_N[:500])
        save_probe(small, folder / "probes", order)
    command = [sys.executable, "deploy/stack.py", "--dir", str(folder / "stack"), "--free-ports"]
    command += ["--probes", str(folder / "probes"), "--samples", str(SEGMENT), "--interval", f"{INTERVAL}s"]
    for setting in (f"EVALUATION__EVERY={EVERY}", "EVALUATION__SUBSET=300", "LEARNER__THREADS=1"):
        command += ["--set", f"LETHE_{setting}"]
    log = folder / "stack.log"
    started = time.time()
    with (
        log.open("w") as errors,
        subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            addresses = _addresses(process, log)
            _await(addresses["finetune"], {"learned": 1}, process, log)
            _send_malformed(addresses["kafka"])
            for service in ("finetune", "ridge"):
                _await(addresses[service], {"learned": 2 * SEGMENT, "dead_lettered": MALFORMED}, process, log)
            time.sleep(3 * INTERVAL)  # the last evaluation is scraped, recorded and checked by the alerts
            stack = Running(addresses, started, time.time(), time.time(), process)
            _await_recordings(stack)
            yield stack
        finally:
            process.terminate()


def _await_recordings(stack: Running) -> None:
    """Wait for the rules on the objective, which are evaluated every 30 seconds, for either service."""
    deadline = time.monotonic() + 150
    budgets = [
        f'lethe:forgetting_budget_left:ratio30d{{service="{service}"}}' for service in ("finetune", "ridge")
    ]
    while True:
        stack.ended = time.time()
        if all(map(stack.over_time, [*recorded(), *budgets])):  # as the tests ask
            return
        assert time.monotonic() < deadline, "some recordings have no data"
        time.sleep(INTERVAL)


def _addresses(process: subprocess.Popen[str], log: Path) -> dict[str, str]:
    assert process.stdout is not None
    addresses: dict[str, str] = {}
    for line in process.stdout:
        if line.startswith("streaming;"):
            return addresses
        name, address = line.split()
        addresses[name] = address
    raise AssertionError(log.read_text())


def _send_malformed(servers: str) -> None:
    with KafkaProducer(bootstrap_servers=servers) as producer:
        for _ in range(MALFORMED):
            producer.send("images", b"no picture", headers=[("label", b"3")]).get(timeout=30)


def _await(address: str, wanted: dict[str, int], process: subprocess.Popen[str], log: Path) -> None:
    """Wait until a service has counted so many samples of each kind, and ask it for predictions meanwhile."""
    deadline = time.monotonic() + 600
    counted: dict[str, int] = {}
    while any(counted.get(kind, 0) < count for kind, count in wanted.items()):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, f"{address} has {counted}"
        counted = httpx.get(f"{address}/state", timeout=30).json()["samples"]
        assert httpx.post(f"{address}/predict", content=bytes(784), headers=BLANK, timeout=30).is_success
        time.sleep(0.5)


@pytest.mark.alone  # the first test, in which the stack learns: how soon an alert comes is measured
def test_forgetting_of_finetune_is_an_alert_within_two_evaluation_intervals(running: Running) -> None:
    mnist = 'service="finetune",probe="mnist"'
    ((_, best), *_) = running.curve(f'lethe_accuracy_matrix_ratio{{{mnist},after="1"}}')
    assert best > 0.7, "it was learned"
    learned_until = running.curve('lethe_segment_visit{service="finetune"} == 2')[0][0]
    accuracy = running.curve(f"lethe_probe_accuracy_ratio{{{mnist}}}")
    fell = next(when for when, value in accuracy if when >= learned_until and value < best - 0.1)
    firing = f'ALERTS{{alertname="LetheProbeForgotten",alertstate="firing",{mnist}}}'
    assert 0 <= running.curve(firing)[0][0] - fell <= 2 * INTERVAL


@pytest.mark.parametrize("service", ["finetune", "ridge"])
def test_every_query_of_every_panel_returns_data(running: Running, service: str) -> None:
    silent = []
    for query in queries(service, rate_interval=f"{4 * INTERVAL}s"):
        values = [value for series in running.over_time(query.expr) for _, value in series]
        if all(map(math.isnan, values)):
            silent.append(query.place)
    expected = [place for place in silent if service in MAY_BE_EMPTY.get(place.split(": ", 1)[1], ())]
    assert silent == expected


def test_every_rule_is_evaluated_and_every_recording_returns_data(running: Running) -> None:
    rules = [rule for group in running.ask("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in rules if rule["health"] != "ok" or rule.get("lastError")} == set()
    assert {rule["name"] for rule in rules if rule["type"] == "recording"} == recorded()
    assert {name for name in recorded() if not running.over_time(name)} == set()


def test_ridge_forgets_nothing_and_raises_no_alert(running: Running) -> None:
    alerts = running.ask(
        "query_range", query="ALERTS", start=running.started, end=running.ended, step=INTERVAL
    )
    raised = {(alert["metric"].get("service"), alert["metric"]["alertname"]) for alert in alerts["result"]}
    forgetting = {"LetheProbeForgotten", "LetheBackwardTransferLow", "LetheProbeAccuracyDropped"}
    assert {name for service, name in raised if service == "ridge"} & forgetting == set()
    assert ("finetune", "LetheProbeForgotten") in raised


def test_only_the_expected_alerts_fire(running: Running) -> None:
    firing = running.ask("query", query='ALERTS{alertstate="firing"}', time=running.learned)["result"]
    fired = {(found["metric"]["service"], found["metric"]["alertname"]) for found in firing}
    late = {
        ("finetune", "LetheForgettingBudgetBurnsFast"),  # only after two minutes
        ("finetune", "LetheLossSurged"),  # for some minutes after the switch
        ("finetune", "LetheResidencyExceeded"),  # of samples that wait for their batch to be filled,
        ("ridge", "LetheResidencyExceeded"),  # in the service that is done first
    }
    assert fired - late == {
        ("finetune", "LetheProbeForgotten"),
        ("finetune", "LetheBackwardTransferLow"),
    }


@pytest.fixture(scope="module")
def drawn(running: Running, browser: Browser) -> dict[str, Drawing]:
    return {board["uid"]: picture(running, browser, board) for board in dashboards()}


def picture(running: Running, browser: Browser, board: dict[str, Any]) -> Drawing:
    prometheus = running.addresses["prometheus"]
    return draw(browser, board, prometheus, running.started, running.ended, scrape=INTERVAL)


@pytest.mark.needs("chromium", "boards")
@pytest.mark.parametrize("uid", [board["uid"] for board in dashboards()])
def test_every_panel_of_every_dashboard_can_be_drawn_and_shows_data(
    drawn: dict[str, Drawing], uid: str
) -> None:
    assert defects(drawn[uid], EMPTY, TABLES) == []


@pytest.mark.needs("chromium", "boards")
def test_a_service_has_one_colour(drawn: dict[str, Drawing]) -> None:
    every = [panel for drawing in drawn.values() for panel in drawing.panels]
    for service in ("finetune", "ridge"):
        assert len({panel.colours[service] for panel in every if service in panel.colours}) == 1
    assert (
        len(
            {
                colour
                for panel in every
                for name, colour in panel.colours.items()
                if name in ("finetune", "ridge")
            }
        )
        == 2
    )


@pytest.mark.needs("chromium", "boards")
def test_the_first_screen_says_which_service_forgets_what_since_when(drawn: dict[str, Drawing]) -> None:
    board = drawn["lethe-forgetting"]
    assert "stalled" not in board.text("Is it keeping up?"), "the stream has ended"
    forgotten = board.text("Forgotten now")
    assert all(word in forgotten for word in ("finetune", "mnist", "%"))
    assert re.search(r"(seconds|minutes?) ago", forgotten)
    assert "ridge" not in forgotten
    place = board.page.locator('[data-panel="Firing alerts"]').bounding_box()
    assert place is not None
    assert place["y"] < 600, "it is on the first screen"
    firing = board.text("Firing alerts")
    assert "LetheProbeForgotten" in firing
    assert "critical" not in firing.partition("warning")[2], "the critical ones first"
    links = board.page.locator('[data-panel="Firing alerts"] a').evaluate_all("all => all.map(a => a.href)")
    assert any(link.endswith("/runbook.html#LetheProbeForgotten") for link in links)


@pytest.mark.needs("chromium", "boards")
def test_rows_of_tables_have_names_and_none_is_out_of_sight(drawn: dict[str, Drawing]) -> None:
    board = drawn["lethe-forgetting"]
    matrix = board.text("R after each segment: finetune")
    assert "0 untrained" in matrix
    assert "1 mnist" in matrix
    classes = board.text("Accuracy by class: finetune")
    assert [f"class {label}" in classes for label in range(10)] == [True] * 10


def change(panel: dict[str, Any], what: str) -> None:
    target, defaults = panel["targets"][0], panel["fieldConfig"]["defaults"]
    match what:
        case "unit":
            defaults["unit"] = "percentage"
        case "panel type":
            panel["type"] = "graf"
        case "column":
            panel["transformations"][-1]["options"]["renameByName"]["probe"] = "Sonde"
        case "metric":
            target["expr"] = target["expr"].replace("lethe_forgetting_ratio", "lethe_forgeting_ratio")
        case "PromQL":
            target["expr"] += ")"
        case "transformation":
            panel["transformations"][0]["id"] = "merges"
        case "option":
            defaults.setdefault("custom", {})["minWidht"] = 60


@pytest.mark.needs("chromium", "boards")
@pytest.mark.parametrize(
    ("title", "what", "found"),
    [
        ("Is it forgetting?", "unit", "unknown unit percentage"),
        ("Is it forgetting?", "panel type", "unknown panel type graf"),
        ("Forgotten now", "column", "has the columns Service, Sonde"),
        ("Is it forgetting?", "metric", "has 0 values"),
        ("Forgetting", "PromQL", "parse error"),
        ("Forgotten now", "transformation", "unknown transformation merges"),
        ("Forgotten now", "option", "unknown option custom.minWidht"),
    ],
)
def test_a_mistake_in_a_dashboard_is_found(
    running: Running, browser: Browser, title: str, what: str, found: str
) -> None:
    (board,) = (board for board in dashboards() if board["uid"] == "lethe-forgetting")
    (panel,) = (deepcopy(panel) for panel in panels(board) if panel["title"] == title)
    change(panel, what)
    assert found in "; ".join(defects(picture(running, browser, {**board, "panels": [panel]}), EMPTY, TABLES))


def test_sigterm_stops_every_process(running: Running) -> None:
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(60) == 0
    for name in ("finetune", "ridge", "prometheus"):
        with pytest.raises(httpx.ConnectError):
            httpx.get(running.addresses[name], timeout=5)
