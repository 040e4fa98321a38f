"""What the serving benchmark reports follows from what it measured."""

import multiprocessing
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from multiprocessing.connection import Connection
from statistics import stdev
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from service.bench.past import CLASSES, SUBJECTS, history_of_a_run, retold
from service.bench.relay import SETTLING, Relay
from service.bench.serving import Ratio, ServingBench, ServingCost, bench_serving
from service.bench.visitor import SIDES, Visit, visit
from service.journal import Journal
from service.learners.finetune import Finetune
from service.metrics import Metrics
from service.prediction import Predictions, Snapshots
from service.report.words import headline
from service.result import EvaluationPoint
from service.settings import Settings
from service.web.app import create_app
from service.web.server import Server
from service.wire import PNG
from tests.test_predict import LAYOUT, LEARNER, create, png


def test_ratios_are_means_over_the_rounds_each_against_its_own_round() -> None:
    cost = ServingCost()
    cost.speeds = {"alone": [100.0, 10.0, 200.0], "watched": [99.0, 9.0, 196.0], "asked": [98.01, 8.1, 196.0]}
    assert cost.watched.value == pytest.approx((0.99 + 0.9 + 0.98) / 3)
    assert cost.asked.value == pytest.approx((0.99 + 0.9 + 1) / 3)
    assert cost.asked.error == pytest.approx(stdev([0.99, 0.9, 1]) / 3**0.5)


def test_a_single_round_tells_no_error() -> None:
    assert Ratio.of([0.9]).value == 0.9
    assert Ratio.of([0.9]).error is None


def test_each_side_has_its_turn_once_and_what_follows_a_change_does_not_count() -> None:
    now, told = 0.0, list[str]()
    relay = Relay(["asked", "alone"], samples=2048, warm=512, switch=told.append, clock=lambda: now)
    sides = []
    for _ in range(40):
        now += 2.0 if relay.side == "asked" else 1.0
        relay(256)
        sides.append(relay.side)
    settling, turn = SETTLING // 256, 2048 // 256
    assert told == ["asked", "alone"]
    assert sides[:2] == [None, "asked"]  # 512 samples were warm
    assert sides.count("asked") == sides.count("alone") == settling + turn
    assert sides[-1] is None
    assert [(side, stretch.samples) for side, stretch in relay.stretches] == [
        ("asked", 2048),
        ("alone", 2048),
    ]
    assert [stretch.samples_per_second for _, stretch in relay.stretches] == [128, 256]


def test_a_latency_is_one_that_so_many_requests_did_not_exceed() -> None:
    cost = ServingCost(latencies=[float(ms) for ms in range(1, 101)])
    assert (cost.latency(0.5), cost.latency(0.99)) == (51, 100)


@contextmanager
def visited(app: FastAPI) -> Iterator[Connection]:
    """A visitor of ``app``, ready for orders at the other end; afterwards it has left."""
    here, there = multiprocessing.Pipe()
    with Server(app, "127.0.0.1", 0) as server:
        port = int(server.address.rsplit(":", 1)[1])
        asked = Visit("127.0.0.1", port, 40.0, png(), {"content-type": PNG})
        visitor = threading.Thread(target=visit, args=(there, asked))
        visitor.start()
        assert here.recv() == "ready"
        yield here
        visitor.join(5)
        assert not visitor.is_alive()


def test_a_visitor_asks_at_its_rate_while_it_is_told_to() -> None:
    began: dict[str, float] = {}
    with (
        Predictions(Snapshots(LEARNER), LAYOUT) as predictions,
        visited(create(predictions)) as here,
    ):
        for order, seconds in (("watched", 0.3), ("asked", 1.0), ("alone", 1.0)):
            began[order] = time.monotonic()
            here.send(order)
            time.sleep(seconds)
        here.send("leave")
        answered, failure = here.recv()
    assert failure is None
    due = [moment for moment, _ in answered]
    assert [later - sooner for sooner, later in pairwise(due)] == pytest.approx([1 / 40] * (len(due) - 1))
    assert 5 <= len(due) <= 60
    assert began["asked"] <= min(due) < max(due) <= began["alone"] + 0.5
    assert all(latency > 0 for _, latency in answered)


def test_a_visitor_whose_host_is_gone_goes() -> None:
    with visited(FastAPI()) as here:
        here.close()


def test_a_visitor_that_is_refused_says_so() -> None:
    with visited(FastAPI()) as here:
        here.send("asked")
        time.sleep(0.5)
        here.send("leave")
        _, failure = here.recv()
    assert "404" in failure


def test_the_service_that_is_watched_has_a_past_to_show() -> None:
    history, registry = history_of_a_run(), CollectorRegistry()
    metrics, journal = Metrics(registry, 784, {}), Journal(Settings(), Finetune, history)
    for event in retold(history):
        metrics(event)
        journal(event)
    assert len(history.points) >= 20
    shown = [family for family in registry.collect() if family.name.startswith("lethe_probe")]
    series = {family.name: len(family.samples) for family in shown}
    assert series["lethe_probe_accuracy_ratio"] == len(SUBJECTS)
    assert series["lethe_probe_class_accuracy_ratio"] == len(SUBJECTS) * CLASSES
    run = journal.result()
    assert headline(run).verdict == "finetune forgot mnist"
    assert run.samples.learned == history.samples
    assert len(run.R) == 1 + len(SUBJECTS)


@pytest.mark.needs("embedded")
def test_every_side_has_the_stream_in_every_round(monkeypatch: pytest.MonkeyPatch) -> None:
    journals: list[Journal] = []

    def noting(journal: Journal, *others: Any) -> FastAPI:
        journals.append(journal)
        return create_app(journal, *others)

    monkeypatch.setattr("service.bench.serving.create_app", noting)
    (cost,) = bench_serving(ServingBench(rounds=1, threads=1))
    assert {side: len(speeds) for side, speeds in cost.speeds.items()} == dict.fromkeys(SIDES, 1)
    assert all(speed > 0 for speeds in cost.speeds.values() for speed in speeds)
    assert cost.latencies
    assert 0 < cost.latency(0.5) <= cost.latency(0.99)
    (journal,) = journals
    assert journal.result().evaluations == EvaluationPoint.of(history_of_a_run()), "none within the turns"


@pytest.mark.alone
@pytest.mark.needs("embedded")
def test_an_answer_does_not_wait_for_what_is_being_learned() -> None:
    (cost,) = bench_serving(ServingBench(rounds=4))
    assert len(cost.latencies) > 20
    assert cost.latency(0.9) <= 0.05, "seconds; the bench says how it is at 99 %, on a quiet machine"
    assert cost.asked.value > 0.6, "learning goes on meanwhile"
