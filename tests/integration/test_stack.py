"""The stack of deploy/stack.py, run on a short stream, as an operator and Grafana see it."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from kafka import KafkaProducer

from producers.datasets import default_root
from producers.probes import probes_of
from producers.scenario import load_scenario
from service.probeset import save_probe
from tests.watching import queries, recorded

pytestmark = [
    pytest.mark.needs("kafka", "prometheus", "datasets"),
    pytest.mark.timeout(900),
    pytest.mark.alone,  # how soon an alert comes is measured
]

CHECKOUT: Final = Path(__file__).parents[2]
INTERVAL: Final = 2
"""Seconds between two scrapes, and between two evaluations of the rules."""
SEGMENT: Final = int(os.environ.get("LETHE_TEST_SEGMENT", "4096"))
"""Samples of each segment, whole batches of either service: 59904 are nearly all there are."""
EVERY: Final = SEGMENT // 8
"""Samples between two evaluations."""
MALFORMED: Final = 7
BLANK: Final = {"content-type": "application/octet-stream", "dtype": "uint8", "shape": "1,28,28"}
MAY_BE_EMPTY: Final = {
    "Alerts firing: A": {"ridge"},
    "Purge lag: B": {"finetune", "ridge"},
    "ε spent: A": {"finetune", "ridge"},
    "ε spent: B": {"finetune", "ridge"},
    "δ of that account: A": {"finetune", "ridge"},
}
"""Queries without data in this run, and for which services: ridge forgets nothing, no policy sets a limit
to the purge, and neither learner is a private one."""


@dataclass
class Running:
    """A stack in which everything has been learned."""

    addresses: dict[str, str]
    started: float
    ended: float
    process: subprocess.Popen[str]

    def ask(self, path: str, **parameters: Any) -> Any:
        answer = httpx.get(f"{self.addresses['prometheus']}/api/v1/{path}", params=parameters, timeout=60)
        assert answer.status_code == 200, f"{parameters}: {answer.text}"
        return answer.json()["data"]

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
            time.sleep(3 * INTERVAL)  # the last evaluation is scraped, recorded and judged
            yield Running(addresses, started, time.time(), process)
        finally:
            process.terminate()


def _addresses(process: subprocess.Popen[str], log: Path) -> dict[str, str]:
    assert process.stdout is not None
    addresses: dict[str, str] = {}
    for line in process.stdout:
        if line.startswith("the stream is running"):
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


def test_what_finetune_forgets_is_an_alert_within_two_evaluation_intervals(running: Running) -> None:
    mnist = 'service="finetune",probe="mnist"'
    ((_, best), *_) = running.curve(f'lethe_accuracy_matrix_ratio{{{mnist},after="1"}}')
    assert best > 0.7, "it was learned"
    learned_until = running.curve('lethe_segment_visit{service="finetune"} == 2')[0][0]
    accuracy = running.curve(f"lethe_probe_accuracy_ratio{{{mnist}}}")
    fell = next(when for when, value in accuracy if when >= learned_until and value < best - 0.1)
    firing = f'ALERTS{{alertname="LetheProbeForgotten",alertstate="firing",{mnist}}}'
    assert 0 <= running.curve(firing)[0][0] - fell <= 2 * INTERVAL


def test_ridge_forgets_nothing_and_says_so(running: Running) -> None:
    alerts = running.ask(
        "query_range", query="ALERTS", start=running.started, end=running.ended, step=INTERVAL
    )
    raised = {(alert["metric"].get("service"), alert["metric"]["alertname"]) for alert in alerts["result"]}
    forgetting = {"LetheProbeForgotten", "LetheBackwardTransferLow", "LetheProbeAccuracyDropped"}
    assert {name for service, name in raised if service == "ridge"} & forgetting == set()
    assert ("finetune", "LetheProbeForgotten") in raised


def test_only_what_happened_is_an_alert(running: Running) -> None:
    firing = running.ask("query", query='ALERTS{alertstate="firing"}', time=running.ended)["result"]
    assert {(found["metric"]["service"], found["metric"]["alertname"]) for found in firing} == {
        ("finetune", "LetheProbeForgotten"),
        ("finetune", "LetheBackwardTransferLow"),
    }


def test_sigterm_stops_every_process(running: Running) -> None:
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(60) == 0
    for name in ("finetune", "ridge", "prometheus"):
        with pytest.raises(httpx.ConnectError):
            httpx.get(running.addresses[name], timeout=5)
