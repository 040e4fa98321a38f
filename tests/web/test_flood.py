"""Clients that do not read their responses cost little memory and do not block others."""

import re
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI, Response
from prometheus_client import CollectorRegistry

from lethe.web.connection_limits import ConnectionLimits
from lethe.web.event_listeners import MAX_LISTENERS
from lethe.web.prediction_worker import PredictionWorker
from lethe.web.predictor_snapshots import PredictorSnapshots
from lethe.web.rejected_requests import RejectedRequests, RejectionReason
from lethe.web.server import Server
from tests.support.predicting import LAYOUT, LEARNER, TOKEN, create
from tests.support.waiting import until

MB = 1 << 20
PATIENCE = 30.0
"""Seconds: the machine may be busy."""


class Served:
    """A service, its counts of rejected requests, and clients that do not read."""

    def __init__(self, address: str, registry: CollectorRegistry) -> None:
        self.address, self._registry = address, registry

    def rejected(self, reason: RejectionReason) -> float:
        return self._registry.get_sample_value("lethe_http_refusals_total", {"reason": reason}) or 0

    def deaf(self, stack: ExitStack, path: str, count: int, headers: str = "") -> list[socket.socket]:
        """Open connections that ask for ``path`` and never read."""
        at, clients = urlsplit(self.address), []
        for _ in range(count):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(PATIENCE)
            client.connect((at.hostname, at.port))
            client.sendall(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}\r\n".encode())
            clients.append(client)
        return clients

    def answers(self, path: str) -> bool:
        """Whether a client is answered: its connection is closed while all others are being answered."""
        try:
            return httpx.get(f"{self.address}{path}", timeout=PATIENCE).status_code == 200
        except (httpx.ReadError, httpx.RemoteProtocolError):
            return False

    def alive_within(self) -> float:
        started = time.monotonic()
        assert httpx.get(f"{self.address}/livez", timeout=PATIENCE).status_code == 200
        return time.monotonic() - started


@contextmanager
def served(limits: ConnectionLimits | None = None, token: str | None = None) -> Iterator[Served]:
    registry = CollectorRegistry()
    rejected = RejectedRequests(registry)
    with PredictionWorker(PredictorSnapshots(LEARNER), LAYOUT) as predictions:
        app = create(predictions, token, registry, rejected)
        with Server(app, "127.0.0.1", 0, limits, on_rejected=rejected) as server:
            yield Served(server.address, registry)


def resident() -> int:
    """Return the memory of this process, which also serves, in bytes."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_a_hundred_clients_that_do_not_read_the_longest_response_cost_little_memory(encoding: str) -> None:
    with served() as service, ExitStack() as stack:
        headers = {"accept-encoding": encoding}
        assert len(httpx.get(f"{service.address}/plotly.js", headers=headers).content) > 4 * MB
        before, peak, took = resident(), 0, []
        service.deaf(stack, "/plotly.js", 100, f"accept-encoding: {encoding}\r\n")
        until_then = time.monotonic() + 3
        while time.monotonic() < until_then:
            took.append(service.alive_within())
            peak = max(peak, resident())
            time.sleep(0.05)
        assert peak - before < 30 * MB
        assert statistics.median(took) < 1


def test_a_client_that_reads_nothing_for_too_long_is_disconnected() -> None:
    with served(ConnectionLimits(read_seconds=0.3)) as service, ExitStack() as stack:
        clients = service.deaf(stack, "/plotly.js", 5)
        until(lambda: service.rejected(RejectionReason.SLOW_READER) == 5, "they are left")
        assert all(left(client) for client in clients)


def left(client: socket.socket) -> bool:
    try:
        while client.recv(65536):
            pass
    except ConnectionResetError:
        return True
    return True


def test_a_slow_client_gets_the_whole_response_sliced_or_not() -> None:
    app, body = FastAPI(), bytes(range(256)) * 8000

    @app.get("/")
    def long() -> Response:
        return Response(body)

    with Server(app, "127.0.0.1", 0, ConnectionLimits(read_seconds=2)) as server, ExitStack() as stack:
        at = urlsplit(server.address)
        slow = stack.enter_context(socket.create_connection((at.hostname, at.port), PATIENCE))
        slow.sendall(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
        received = b""
        while part := slow.recv(50_000):
            received += part
            time.sleep(0.02)
        assert received.partition(b"\r\n\r\n")[2] == body


def test_a_flood_of_clients_that_do_not_read_does_not_block_others() -> None:
    with served(ConnectionLimits(connections=20)) as service, ExitStack() as stack:
        for round_ in range(1, 6):
            service.deaf(stack, "/plotly.js", 30)
            for path in ("/livez", "/metrics"):
                until(lambda path=path: service.answers(path), "others are answered")
            crowded = 30 * round_ - 20
            until(lambda n=crowded: service.rejected(RejectionReason.CROWDED) >= n, "the others are left")


def test_a_flood_of_requests_without_their_bodies_does_not_block_others() -> None:
    with served(ConnectionLimits(connections=20)) as service, ExitStack() as stack:
        at = urlsplit(service.address)
        for _ in range(60):
            client = stack.enter_context(socket.create_connection((at.hostname, at.port), PATIENCE))
            client.sendall(b"POST /predict HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100\r\n\r\n")
        assert service.alive_within() < PATIENCE


def test_listeners_that_do_not_read_do_not_block_the_page() -> None:
    with served() as service, ExitStack() as stack:
        service.deaf(stack, "/events", MAX_LISTENERS + 20)
        until(lambda: listens(service.address), "the page is let in")
        assert service.rejected(RejectionReason.LISTENERS) > 0
        assert service.alive_within() < PATIENCE


def test_forty_listeners_that_do_not_read_have_no_effect() -> None:
    with served() as service, ExitStack() as stack:
        service.deaf(stack, "/events", 40)
        for _ in range(5):
            assert listens(service.address)


def listens(address: str) -> bool:
    """Return whether a further listener gets the state of the run."""
    with httpx.stream("GET", f"{address}/events", timeout=PATIENCE) as events:
        return events.status_code == 200 and any("event: state" in line for line in events.iter_lines())


@pytest.mark.parametrize("path", ["/plotly.js", "/events"])
def test_without_the_token_the_script_and_the_events_are_not_served(path: str) -> None:
    with served(token=TOKEN) as service:
        assert httpx.get(f"{service.address}{path}").status_code == 401


def test_health_is_answered_while_every_thread_is_busy() -> None:
    waiting, app = threading.Event(), create(PredictionWorker(PredictorSnapshots(LEARNER), LAYOUT))

    @app.get("/slow")
    def slow() -> None:
        waiting.wait(PATIENCE)

    with Server(app, "127.0.0.1", 0) as server, ExitStack() as stack:
        service = Served(server.address, CollectorRegistry())
        service.deaf(stack, "/slow", 100)
        assert service.alive_within() < PATIENCE / 2
        waiting.set()
