"""The serving benchmark: its ratios, its interleaved timing and its load client."""

import asyncio
import multiprocessing
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import pairwise
from multiprocessing.connection import Connection
from statistics import stdev
from typing import Any

import pytest
from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse
from prometheus_client import CollectorRegistry

from lethe.experiments.bench.interleaved_timing import SETTLING, InterleavedTiming
from lethe.experiments.bench.load_client import SIDES, LoadTarget, run_load_client
from lethe.experiments.bench.serving import Ratio, ServingBench, ServingCost, bench_serving
from lethe.experiments.bench.synthetic_history import CLASSES, SUBJECTS, resume_events, synthetic_history
from lethe.learners.gradient.finetune import Finetune
from lethe.observability.metrics import Metrics
from lethe.observability.result import EvaluationPoint
from lethe.observability.run_state import RunState
from lethe.report.headline import headline
from lethe.settings import Settings
from lethe.web.app import create_app
from lethe.web.prediction_worker import PredictionWorker
from lethe.web.predictor_snapshots import PredictorSnapshots
from lethe.web.server import Server
from lethe.wire import PNG
from tests.support.predicting import LAYOUT, LEARNER, create, png
from tests.support.waiting import until


def test_ratios_are_means_over_the_rounds_each_against_its_own_round() -> None:
    cost = ServingCost()
    cost.speeds = {"alone": [100.0, 10.0, 200.0], "watched": [99.0, 9.0, 196.0], "asked": [98.01, 8.1, 196.0]}
    assert cost.watched.value == pytest.approx((0.99 + 0.9 + 0.98) / 3)
    assert cost.asked.value == pytest.approx((0.99 + 0.9 + 1) / 3)
    assert cost.asked.error == pytest.approx(stdev([0.99, 0.9, 1]) / 3**0.5)


def test_a_single_round_has_no_standard_error() -> None:
    assert Ratio.of([0.9]).value == 0.9
    assert Ratio.of([0.9]).error is None


def test_each_side_has_its_turn_once_and_what_follows_a_change_does_not_count() -> None:
    now, switches = 0.0, list[str]()
    timing = InterleavedTiming(
        ["asked", "alone"], samples=2048, warm=512, switch=switches.append, clock=lambda: now
    )
    sides = []
    for _ in range(40):
        now += 2.0 if timing.side == "asked" else 1.0
        timing(256)
        sides.append(timing.side)
    settling, turn = SETTLING // 256, 2048 // 256
    assert switches == ["asked", "alone"]
    assert sides[:2] == [None, "asked"]  # 512 samples were warm
    assert sides.count("asked") == sides.count("alone") == settling + turn
    assert sides[-1] is None
    assert [(side, interval.samples) for side, interval in timing.intervals] == [
        ("asked", 2048),
        ("alone", 2048),
    ]
    assert [interval.samples_per_second for _, interval in timing.intervals] == [128, 256]


def test_a_percentile_is_a_latency_that_this_share_of_requests_did_not_exceed() -> None:
    cost = ServingCost(latencies=[float(ms) for ms in range(1, 101)])
    assert (cost.latency(0.5), cost.latency(0.99)) == (51, 100)


@contextmanager
def load_client(app: FastAPI) -> Iterator[Connection]:
    """A load client of ``app``, ready for commands on the yielded connection; it has ended on exit."""
    here, there = multiprocessing.Pipe()
    with Server(app, "127.0.0.1", 0) as server:
        port = int(server.address.rsplit(":", 1)[1])
        asked = LoadTarget("127.0.0.1", port, 40.0, png(), {"content-type": PNG})
        client = threading.Thread(target=run_load_client, args=(there, asked))
        client.start()
        assert here.recv() == "ready"
        yield here
        client.join(60)
        assert not client.is_alive()


def test_the_load_client_requests_predictions_at_its_rate_while_asked_to() -> None:
    began: dict[str, float] = {}
    registry = CollectorRegistry()

    def answers() -> float:
        return registry.get_sample_value("lethe_predict_requests_total", {"status": "200"}) or 0

    with (
        PredictionWorker(PredictorSnapshots(LEARNER), LAYOUT) as predictions,
        load_client(create(predictions, registry=registry)) as here,
    ):
        for order in ("watched", "asked", "alone"):
            began[order] = time.monotonic()
            here.send(order)
            if order == "asked":
                until(lambda: answers() >= 20, "the client asks")
            else:
                time.sleep(0.5)
        here.send("leave")
        answered, failure = here.recv()
    assert failure is None
    due = [moment for moment, _ in answered]
    assert [later - sooner for sooner, later in pairwise(due)] == pytest.approx([1 / 40] * (len(due) - 1))
    assert len(due) >= 20
    assert began["asked"] <= min(due) < max(due) <= began["alone"] + 0.5
    assert all(latency > 0 for _, latency in answered)


def test_the_load_client_ends_with_its_parent() -> None:
    with load_client(FastAPI()) as here:
        here.close()


async def _events() -> AsyncIterator[bytes]:
    while True:
        yield b"\n"
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("command", "rejected"), [("asked", "predict"), ("watched", "events"), ("watched", "metrics")]
)
def test_the_load_client_reports_a_rejected_request(
    command: str, rejected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lethe.experiments.bench.load_client.SCRAPE_SECONDS", 0.1)
    app, requested = FastAPI(), threading.Event()

    @app.api_route("/{path}", methods=["GET", "POST"])
    async def answer(path: str) -> Response:
        if path == rejected:
            requested.set()
            return Response(status_code=404)
        return StreamingResponse(_events()) if path == "events" else Response()

    with load_client(app) as here:
        here.send(command)
        assert requested.wait(60)
        here.send("leave")
        _, failure = here.recv()
    assert failure is not None
    assert f"/{rejected} answered" in failure
    assert "404" in failure


def test_the_service_that_is_watched_has_a_history_to_render() -> None:
    history, registry = synthetic_history(), CollectorRegistry()
    metrics, run_state = Metrics(registry, 784, {}), RunState(Settings(), Finetune, history)
    for event in resume_events(history):
        metrics(event)
        run_state(event)
    assert len(history.points) >= 20
    shown = [family for family in registry.collect() if family.name.startswith("lethe_probe")]
    series = {family.name: len(family.samples) for family in shown}
    assert series["lethe_probe_accuracy_ratio"] == len(SUBJECTS)
    assert series["lethe_probe_class_accuracy_ratio"] == len(SUBJECTS) * CLASSES
    run = run_state.result()
    assert headline(run).verdict == "finetune forgot mnist"
    assert run.samples.learned == history.samples
    assert len(run.R) == 1 + len(SUBJECTS)


@pytest.mark.long
@pytest.mark.needs("embedded")
def test_every_side_has_the_stream_in_every_round(monkeypatch: pytest.MonkeyPatch) -> None:
    run_states: list[RunState] = []

    def noting(run_state: RunState, *others: Any) -> FastAPI:
        run_states.append(run_state)
        return create_app(run_state, *others)

    monkeypatch.setattr("lethe.experiments.bench.serving.create_app", noting)
    (cost,) = bench_serving(ServingBench(rounds=1, threads=1))
    assert {side: len(speeds) for side, speeds in cost.speeds.items()} == dict.fromkeys(SIDES, 1)
    assert all(speed > 0 for speeds in cost.speeds.values() for speed in speeds)
    assert cost.latencies
    assert 0 < cost.latency(0.5) <= cost.latency(0.99)
    (run_state,) = run_states
    assert run_state.result().evaluations == EvaluationPoint.of(synthetic_history()), "none within the turns"


@pytest.mark.alone
@pytest.mark.timeout(900)
@pytest.mark.needs("embedded")
def test_a_prediction_does_not_wait_for_learning() -> None:
    (cost,) = bench_serving(ServingBench(rounds=4))
    assert len(cost.latencies) > 20
    assert cost.latency(0.5) <= 0.05, "seconds; the bench says how it is at 99 %, on a quiet machine"
    assert cost.asked.value > 0.6, "learning goes on meanwhile"
