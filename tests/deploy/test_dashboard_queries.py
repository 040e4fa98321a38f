"""The dashboards' queries: they parse, return the right values, and cover every metric."""

import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.support.monitoring import NOT_OURS, PanelQuery, exported, metrics_in, queries, recorded, rules

INFO = '{job="lethe", instance="a", service="ridge"%s}'

ABSENT: Final[dict[str, str]] = {
    "lethe_probe_features_bytes": "constant after the first evaluations, and part of the resident memory",
    "lethe_start_duration_seconds": "set once at the start, and in the log and /state as well",
    "lethe_policy_last_violation_timestamp_seconds": "for the alert; the panel shows the count rise",
    "lethe_samples_last_lost_timestamp_seconds": "the same",
    "lethe_witness_up": "for the alert; the panel shows how far the witness is behind",
    "lethe_samples_unlabelled": "the panel shows those of the whole run",
    "lethe_samples_lost": "the panel shows those of the whole run",
    "lethe_batches_given_back": "the panel shows how often in a row",
    "lethe_partitions_added": "each has a line of its own in Offset by partition",
    "process_virtual_memory_bytes": "libraries reserve much that they never use; resident memory is shown",
    "process_open_fds": "bounded: connections are limited in number, and no file stays open",
    "process_max_fds": "the system's, and it never changes",
    **{
        f"lethe_feeder_process_{what}": "the same, of the process that reads the broker"
        for what in ("virtual_memory_bytes", "open_fds", "max_fds")
    },
    "lethe_feeder_process_start_time_seconds": "it starts with the service, and ends it when it ends",
    "lethe_commits_failing": "for an alert; the log has the reason",
    "lethe_classes_named": "the classes themselves are shown, by name",
    "lethe_predictions_written": "equal to the samples learned, which are shown",
    "lethe_predictions_waiting": "for an alert; the lag grows meanwhile, and the log has the reason",
    "lethe_segments_uncounted": "for an alert; the log has the names",
    "python_info": "the version is in lethe_build_info, too",
    "python_gc_objects_collected": "of use to who looks for a leak in the program, not to who runs it",
    "python_gc_objects_uncollectable": "the same",
    "python_gc_collections": "the same",
}
"""Exported metrics that are on no dashboard, and why."""


def answers(question: str, value: int, series: dict[str, str], tmp_path: Path) -> None:
    """Hold the answer to ``question`` at 300 s against ``value``, given ``series`` by the half minute."""
    (query,) = {query.expr for query in queries() if question in query.place}
    expected = [{"labels": '{service="ridge"}', "value": value}]
    promql(
        query, 300, {name + INFO % "": values for name, values in series.items()}, expected, "30s", tmp_path
    )


@pytest.mark.needs("prometheus")
def test_a_probe_that_was_never_learned_does_not_count_as_in_the_alert(tmp_path: Path) -> None:
    def probe(name: str) -> str:
        return INFO % f', probe="{name}"'

    series = {f"lethe_forgetting_ratio{probe('mnist')}": "0.05x10"}
    series |= {f"lethe_forgetting_ratio{probe('hopeless')}": "0.35x10"}
    series |= {f"lethe:probe_accuracy_floor:ratio{probe('mnist')}": "0.85x10"}  # there is none for the other
    (query,) = {query.expr for query in queries() if "Is it forgetting?" in query.place}
    expected = [{"labels": '{service="ridge"}', "value": 0.05}]
    promql(query, 300, series, expected, "30s", tmp_path)


@pytest.mark.needs("prometheus")
def test_kept_samples_are_shown_while_no_record_passes_through(tmp_path: Path) -> None:
    series = {"lethe_samples_resident": "64x5 0x5", "lethe_samples_kept": "5000x10"}
    answers("Is it keeping anything?", 5000, series, tmp_path)


def promql(
    query: str, at: int, series: dict[str, str], expected: list[dict[str, Any]], every: str, tmp_path: Path
) -> None:
    """Hold what ``query`` returns at ``at`` seconds against ``expected``, given ``series``."""
    case = {
        "interval": every,
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": query, "eval_time": f"{at}s", "exp_samples": expected}],
    }
    file = tmp_path / "case.yaml"
    file.write_text(yaml.safe_dump({"evaluation_interval": every, "tests": [case]}))
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.needs("prometheus")
@pytest.mark.parametrize(
    ("series", "at", "visits"),
    [
        pytest.param(
            {"1": "1x4 stale", "2": "_x4 1x20", "started": "1x4 2x20"}, 25, ["2"], id="a switch is marked"
        ),
        pytest.param({"1": "1x4 stale", "2": "_x4 1x20", "started": "1x4 2x20"}, 30, [], id="but only once"),
        pytest.param({"1": "_x4 1x20", "started": "_x4 1x20"}, 20, ["1"], id="and so is the first one"),
        pytest.param(
            {"2": "1x4 stale _x8 1x20", "started": "2x4 stale _x8 0x20"},
            75,
            [],
            id="no restart after an outage",
        ),
        pytest.param(
            {"1": "_x14 1 stale", "2": "1x4 stale _x9 1x20", "started": "2x4 stale _x8 0 1x20"},
            75,
            ["2"],
            id="learned again, from an earlier checkpoint",
        ),
    ],
)
def test_switches_are_marked_and_restarts_are_not(
    series: dict[str, str], at: int, visits: list[str], tmp_path: Path
) -> None:
    names = {"started": "lethe_segments_started_total" + INFO % ""}
    names |= {visit: "lethe_segment_info" + INFO % f', segment="s", visit="{visit}"' for visit in "12"}
    (query,) = {query.expr for query in queries() if ": Accuracy on each probe: $service: C" in query.place}
    expected = [
        {"labels": "lethe_segment_info" + INFO % f', segment="s", visit="{v}"', "value": 1} for v in visits
    ]
    promql(query, at, {names[name]: values for name, values in series.items()}, expected, "5s", tmp_path)


@pytest.mark.needs("prometheus")
@pytest.mark.parametrize(
    ("at", "seen"),
    [
        pytest.param(45, [], id="a process that runs"),
        pytest.param(60, ["ridge"], id="one that was started again"),
        pytest.param(75, [], id="is marked once"),
        pytest.param(315, ["replay"], id="after an outage, too"),
    ],
)
def test_restarts_are_marked_once(at: int, seen: list[str], tmp_path: Path) -> None:
    started = 'process_start_time_seconds{job="lethe", instance="a", service="%s"}'
    series = {started % "ridge": "5x3 55x20", started % "replay": "5x3 stale _x16 300x5"}
    (query,) = {query.expr for query in queries() if query.place.endswith(": Restarts: annotation")}
    expected = [{"labels": started % service, "value": 55 if service == "ridge" else 300} for service in seen]
    promql(query, at, series, expected, "15s", tmp_path)


@pytest.mark.needs("prometheus")
@pytest.mark.parametrize(
    ("lag", "learned", "idle", "stalled"),
    [
        pytest.param("0x10", "0x10", True, False, id="nothing waits"),
        pytest.param("32x10", "0x10", True, False, id="less than a batch waits at the end of a stream"),
        pytest.param("5000x10", "0x10", False, True, id="many wait and none are learned"),
        pytest.param("5000x10", "20x10", False, False, id="many wait and are learned"),
    ],
)
def test_a_batch_that_is_not_full_is_no_stalled_learner(
    lag: str, learned: str, idle: bool, stalled: bool, tmp_path: Path
) -> None:
    labels = INFO % ""
    series = {f"lethe:lag:records{labels}": lag, f"lethe:samples_learned:rate5m{labels}": learned}
    (query,) = {query.expr for query in queries() if "Is it keeping up?" in query.place}
    query = re.sub(
        r"lethe:lag:seconds\{[^}]*\}", "(lethe:lag:records / lethe:samples_learned:rate5m)", query
    )  # as it is recorded
    for test, holds in ((f"({query}) == bool ({query})", not idle), (f"({query}) == bool Inf", stalled)):
        promql(test, 300, series, [{"labels": '{service="ridge"}', "value": int(holds)}], "30s", tmp_path)


@pytest.mark.needs("prometheus")
@pytest.mark.parametrize(
    ("started", "turned", "alive"),
    [
        pytest.param("_x8 270x2", "_x8 0x2", 1, id="a process of half a minute that has not turned yet"),
        pytest.param("0x10", "0x10", 0, id="a process of five minutes that has never turned"),
        pytest.param("0x10", "0+30x10", 1, id="a loop that goes round"),
        pytest.param("0x10", "30x10", 0, id="a loop that went round four and a half minutes ago"),
    ],
)
def test_a_service_is_alive_while_it_turns_and_for_two_minutes_before_its_first_turn(
    started: str, turned: str, alive: int, tmp_path: Path
) -> None:
    series = {
        "up": "1x10",
        "process_start_time_seconds": started,
        "lethe_last_turn_timestamp_seconds": turned,
    }
    answers("Is it alive?", alive, series, tmp_path)


@pytest.mark.needs("prometheus")
def test_every_query_parses(tmp_path: Path) -> None:
    listed = [{"record": f"query:{n}", "expr": query.expr} for n, query in enumerate(queries())]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": listed}]}))
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("query", list(queries()), ids=str)
def test_every_metric_that_a_panel_names_exists(query: PanelQuery) -> None:
    series = {name for names in exported().values() for name in names}
    assert metrics_in(query.expr) <= series | recorded() | NOT_OURS | {"ALERTS", "ALERTS_FOR_STATE"}
    assert metrics_in(query.expr)


def test_every_exported_metric_is_shown_or_left_out_for_a_reason() -> None:
    behind = {rule["record"]: metrics_in(rule["expr"]) for rule in rules() if "record" in rule}
    shown = {name for query in queries() for name in metrics_in(query.expr)}
    while further := {name for rule in shown & behind.keys() for name in behind[rule]} - shown:
        shown |= further
    missing = {metric for metric, series in exported().items() if not shown & set(series)}
    assert missing <= set(ABSENT)
    assert set(ABSENT) <= set(exported())


def test_every_recorded_series_is_used() -> None:
    used = {name for query in queries() for name in metrics_in(query.expr)}
    used |= {name for rule in rules() for name in metrics_in(rule["expr"])}
    assert recorded() <= used
