"""What the serving benchmark reports follows from what it measured."""

import multiprocessing
import threading
import time
from itertools import pairwise

import pytest

from service.bench.serving import ServingCost
from service.bench.visitor import Visit, visit
from service.prediction import Predictions, Snapshots
from service.web.server import Server
from service.wire import PNG
from tests.test_predict import LAYOUT, LEARNER, create, png


def test_costs_are_medians_over_the_turns_each_against_its_own_turn() -> None:
    cost = ServingCost()
    cost.speeds = {"alone": [100.0, 10.0, 200.0], "watched": [99.0, 9.0, 196.0], "asked": [98.0, 8.1, 196.0]}
    assert cost.watching == pytest.approx(0.02)
    assert cost.asking == pytest.approx(98 / 99)


def test_a_latency_is_one_that_so_many_requests_did_not_exceed() -> None:
    cost = ServingCost(latencies=[float(ms) for ms in range(1, 101)])
    assert (cost.latency(0.5), cost.latency(0.99)) == (51, 100)


def test_a_visitor_watches_and_asks_at_its_rate_until_it_is_told_to_go() -> None:
    here, there = multiprocessing.Pipe()
    with (
        Predictions(Snapshots(LEARNER), LAYOUT) as predictions,
        Server(create(predictions), "127.0.0.1", 0) as server,
    ):
        port = int(server.address.rsplit(":", 1)[1])
        asked = Visit("127.0.0.1", port, 40.0, png(), {"content-type": PNG})
        visitor = threading.Thread(target=visit, args=(there, asked))
        visitor.start()
        assert here.recv() == "ready"
        time.sleep(1)
        here.send("over")
        answered = here.recv()
        visitor.join()
    due = [moment for moment, _ in answered]
    assert [later - sooner for sooner, later in pairwise(due)] == pytest.approx([1 / 40] * (len(due) - 1))
    assert 5 <= len(due) <= 60
    assert all(latency > 0 for _, latency in answered)
