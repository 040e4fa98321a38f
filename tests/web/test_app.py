"""The HTTP interface serves metrics, the state of the run, and its health."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from lethe.errors import InvalidSetting
from lethe.evaluation.history import History
from lethe.events import BrokerStatus, LoopTurned, RecordsReceived
from lethe.learners.base import LearnerContext
from lethe.learners.gradient.finetune import Finetune
from lethe.observability.metrics import Metrics
from lethe.observability.run_state import RunState
from lethe.privacy.status import PolicyStatus
from lethe.settings import ServeSettings, Settings
from lethe.web.app import create_app
from lethe.web.predict import PredictEndpoint
from lethe.web.prediction_worker import PredictionWorker
from lethe.web.predictor_snapshots import PredictorSnapshots
from lethe.web.server import Server
from lethe.web.state import State, state_of
from lethe.wire import Layout


class Service:
    """A run state fed with events, and the application that serves it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry, 784, {"version": "1.2.3"})
        settings = Settings(serve=ServeSettings(stalled_seconds=10))
        self.run_state = RunState(settings, Finetune, History([]), lambda: self.now)
        self.policy_status = PolicyStatus()
        self.snapshots = PredictorSnapshots(Finetune(LearnerContext(LAYOUT)))
        self.predictions = PredictionWorker(self.snapshots, LAYOUT)
        self.app = self.create_app()

    def create_app(self, token: str | None = None, most_bytes: int = 100_000) -> FastAPI:
        predict = PredictEndpoint(self.predictions, "finetune", LAYOUT, most_bytes)
        return create_app(self.run_state, self.registry, "1.2.3", self.policy_status, predict, token)


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


def test_a_stuck_loop_fails_liveness_until_it_runs_again(service: Service, client: httpx.Client) -> None:
    assert client.get("/livez").status_code == 200
    service.now += 11
    stuck = client.get("/livez")
    assert (stuck.status_code, stuck.json()) == (
        503,
        {"detail": "the loop is stuck: no iteration within serve.stalled_seconds"},
    )
    service.run_state(LoopTurned(0))
    assert client.get("/livez").status_code == 200


def test_an_absent_broker_fails_readiness_but_not_liveness(service: Service, client: httpx.Client) -> None:
    assert client.get("/readyz").status_code == 503
    service.run_state(BrokerStatus(up=True))
    assert client.get("/readyz").status_code == 200
    service.run_state(BrokerStatus(up=False, detail="gone"))
    absent = client.get("/readyz")
    assert (absent.status_code, absent.json()) == (503, {"detail": "gone"})
    assert client.get("/livez").status_code == 200


def test_with_a_token_readiness_does_not_reveal_the_reason(service: Service) -> None:
    service.run_state(BrokerStatus(up=False, detail="topic images does not exist at kafka:9092"))
    service.registry = CollectorRegistry()
    app = service.create_app(token="obol")
    with Server(app, "127.0.0.1", 0) as server, httpx.Client(base_url=server.address) as client:
        locked = client.get("/readyz")
    assert (locked.status_code, locked.json()) == (503, {"detail": "the broker does not answer"})


def test_the_state_is_the_run_state(service: Service, client: httpx.Client) -> None:
    service.run_state(RecordsReceived(70))
    answer = client.get("/state")
    assert answer.headers["content-type"] == "application/json"
    state = answer.json()
    assert state == state_of(service.run_state, service.policy_status).model_dump(mode="json")
    served = {**service.run_state.state(), "standing": service.policy_status.state(), "models": []}
    assert set(served) == set(State.model_fields), "every field is described"
    assert state["samples"]["received"] == 70


def test_nothing_can_be_changed_over_http(client: httpx.Client) -> None:
    for path in ("/metrics", "/livez", "/readyz", "/state"):
        assert client.post(path).status_code == 405


def test_the_interface_is_served_on_its_address(service: Service) -> None:
    with Server(service.app, "127.0.0.1", 0) as server:
        assert server.address.startswith("http://127.0.0.1:")
        assert httpx.get(f"{server.address}/livez").status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.address}/livez")


def test_loopback_is_the_default() -> None:
    assert ServeSettings().host == "127.0.0.1"


def test_a_port_in_use_is_an_error_that_names_the_settings(service: Service) -> None:
    with taken_port() as port, pytest.raises(InvalidSetting) as caught:
        Server(service.app, "127.0.0.1", port)
    assert str(caught.value) == f"serve.host 127.0.0.1, serve.port {port}: Address already in use"


@pytest.mark.parametrize("host", ["256.0.0.1", "no.such.host.invalid", "192.0.2.1"])
def test_an_address_of_another_machine_is_an_error(host: str, service: Service) -> None:
    with pytest.raises(InvalidSetting, match=rf"serve\.host {host}, serve\.port 0: \w"):
        Server(service.app, host, 0)


def test_a_port_can_be_reused_immediately(service: Service) -> None:
    with Server(service.app, "127.0.0.1", 0) as first:
        port = int(first.address.rsplit(":", 1)[1])
        httpx.get(f"{first.address}/livez")
    with Server(service.app, "127.0.0.1", port) as second:
        assert httpx.get(f"{second.address}/livez").status_code == 200


def test_a_keep_alive_connection_does_not_delay_the_stop_of_the_server(service: Service) -> None:
    with httpx.Client() as client, Server(service.app, "127.0.0.1", 0) as server:
        client.get(f"{server.address}/livez")  # the connection is kept alive
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{server.address}/livez")


def test_a_response_is_sent_without_nagles_delay(service: Service, client: httpx.Client) -> None:
    def took() -> float:
        started = time.perf_counter()
        client.get("/livez")
        return time.perf_counter() - started

    assert min(took() for _ in range(20)) < 0.04, "each took what Nagle's algorithm waits for"


def test_the_server_can_listen_on_ipv6(service: Service) -> None:
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
