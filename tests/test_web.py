"""Whoever asks over HTTP gets the metrics, the state of the run, and an honest word on its health."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from service.errors import InvalidSetting
from service.evaluation.history import History
from service.events import BrokerSeen, RecordsReceived, Turned
from service.journal import Journal
from service.learners.base import LearnerContext
from service.learners.finetune import Finetune
from service.metrics import Metrics
from service.prediction import Predictions, Snapshots
from service.privacy.standing import Standing
from service.settings import ServeSettings, Settings
from service.web.app import create_app
from service.web.predict import Predict
from service.web.server import Server
from service.web.state import State, state_of
from service.wire import Layout


class Service:
    """A run that is told what happens, and the application that shows it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry, 784, {"version": "1.2.3"})
        settings = Settings(serve=ServeSettings(stalled_seconds=10))
        self.journal = Journal(settings, Finetune, History([]), lambda: self.now)
        self.standing = Standing()
        self.snapshots = Snapshots(Finetune(LearnerContext(LAYOUT)))
        self.predictions = Predictions(self.snapshots, LAYOUT)
        self.app = self.create_app()

    def create_app(self, token: str | None = None, most_bytes: int = 100_000) -> FastAPI:
        predict = Predict(self.predictions, "finetune", LAYOUT, most_bytes)
        return create_app(self.journal, self.registry, "1.2.3", self.standing, predict, token)


LAYOUT = Layout(height=8, width=8, classes=3)


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    with service.predictions:
        yield service


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with Server(service.app, "127.0.0.1", 0) as server, httpx.Client(base_url=server.address) as client:
        yield client


def test_metrics_are_what_prometheus_reads(service: Service, client: httpx.Client) -> None:
    service.metrics(RecordsReceived(70))
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert families["lethe_samples_received"].type == "counter"
    assert families["lethe_samples_received"].samples[0].value == 70
    assert families["lethe_build_info"].samples[0].labels == {"version": "1.2.3"}


def test_metrics_change_from_scrape_to_scrape(service: Service, client: httpx.Client) -> None:
    before = client.get("/metrics").text
    service.metrics(RecordsReceived(1))
    assert client.get("/metrics").text != before


def test_a_stuck_loop_fails_liveness_until_it_turns_again(service: Service, client: httpx.Client) -> None:
    assert client.get("/livez").status_code == 200
    service.now += 11
    stuck = client.get("/livez")
    assert (stuck.status_code, stuck.json()) == (503, {"detail": "the loop has not turned for too long"})
    service.journal(Turned(0))
    assert client.get("/livez").status_code == 200


def test_an_absent_broker_fails_readiness_and_never_liveness(service: Service, client: httpx.Client) -> None:
    assert client.get("/readyz").status_code == 503
    service.journal(BrokerSeen(up=True))
    assert client.get("/readyz").status_code == 200
    service.journal(BrokerSeen(up=False, detail="gone"))
    absent = client.get("/readyz")
    assert (absent.status_code, absent.json()) == (503, {"detail": "the broker does not answer"})
    assert client.get("/livez").status_code == 200


def test_the_state_is_the_journal_s(service: Service, client: httpx.Client) -> None:
    service.journal(RecordsReceived(70))
    answer = client.get("/state")
    assert answer.headers["content-type"] == "application/json"
    state = answer.json()
    assert state == state_of(service.journal, service.standing).model_dump(mode="json")
    told = {**service.journal.state(), "standing": service.standing.state()}
    assert set(told) == set(State.model_fields), "every field is described"
    assert state["samples"]["received"] == 70


def test_nothing_can_be_changed_over_http(client: httpx.Client) -> None:
    for path in ("/metrics", "/livez", "/readyz", "/state"):
        assert client.post(path).status_code == 405


def test_the_interface_is_served_on_the_address_it_names(service: Service) -> None:
    with Server(service.app, "127.0.0.1", 0) as server:
        assert server.address.startswith("http://127.0.0.1:")
        assert httpx.get(f"{server.address}/livez").status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.address}/livez")


def test_loopback_is_the_default() -> None:
    assert ServeSettings().host == "127.0.0.1"


def test_a_taken_port_is_refused_by_the_names_of_its_settings(service: Service) -> None:
    with taken_port() as port, pytest.raises(InvalidSetting) as caught:
        Server(service.app, "127.0.0.1", port)
    assert str(caught.value) == f"serve.host 127.0.0.1, serve.port {port}: Address already in use"


@pytest.mark.parametrize("host", ["256.0.0.1", "no.such.host.invalid", "192.0.2.1"])
def test_an_address_that_is_not_this_machine_s_is_refused(host: str, service: Service) -> None:
    with pytest.raises(InvalidSetting, match=rf"serve\.host {host}, serve\.port 0: \w"):
        Server(service.app, host, 0)


def test_a_port_can_be_used_again_at_once(service: Service) -> None:
    with Server(service.app, "127.0.0.1", 0) as first:
        port = int(first.address.rsplit(":", 1)[1])
        httpx.get(f"{first.address}/livez")
    with Server(service.app, "127.0.0.1", port) as second:
        assert httpx.get(f"{second.address}/livez").status_code == 200


def test_a_client_that_stays_connected_does_not_keep_the_server_from_stopping(service: Service) -> None:
    with httpx.Client() as client, Server(service.app, "127.0.0.1", 0) as server:
        client.get(f"{server.address}/livez")  # the connection is kept alive
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{server.address}/livez")


def test_an_answer_is_sent_without_the_delay_that_saves_packets(
    service: Service, client: httpx.Client
) -> None:
    client.get("/livez")
    started = time.perf_counter()
    for _ in range(20):
        client.get("/livez")
    assert time.perf_counter() - started < 20 * 0.04, "each took what Nagle's algorithm waits for"


def test_the_server_is_answered_over_ipv6_too(service: Service) -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        server = Server(service.app, "::1", 0)
    except InvalidSetting as error:
        pytest.skip(f"this machine has no IPv6 loopback: {error}")
    with server:
        assert server.address.startswith("http://[::1]:")
        assert httpx.get(f"{server.address}/livez").status_code == 200


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]
