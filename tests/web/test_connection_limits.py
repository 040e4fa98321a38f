"""Idle, slow, oversized and interrupted connections do not affect other clients."""

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI, Request, Response

from lethe.web.connection_limits import ConnectionLimits
from lethe.web.predict import PredictEndpoint
from lethe.web.prediction_worker import PredictionWorker
from lethe.web.predictor_snapshots import PredictorSnapshots
from lethe.web.server import Server
from tests.support.predicting import AS_RAW, LAYOUT, LEARNER, X_NCHW, create

SOON = 0.3
"""Timeout in these tests, in seconds, instead of ten."""
LATE = 30.0
"""Timeout of what has to happen soon, on a busy machine."""
GET = b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"


@contextmanager
def served(limits: ConnectionLimits | None = None) -> Iterator[str]:
    with (
        PredictionWorker(PredictorSnapshots(LEARNER), LAYOUT) as predictions,
        Server(create(predictions), "127.0.0.1", 0, limits) as server,
    ):
        yield server.address


@pytest.fixture
def impatient() -> Iterator[str]:
    """A service that waits for a head no longer than SOON."""
    with served(ConnectionLimits(head_seconds=SOON)) as address:
        yield address


def connected(address: str) -> socket.socket:
    at = urlsplit(address)
    client = socket.create_connection((at.hostname, at.port), LATE)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def answer(client: socket.socket) -> bytes:
    """Return what is received until the service closes the connection; fail if it does not."""
    received = b""
    try:
        while part := client.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


def one_answer(client: socket.socket) -> bytes:
    received = b""
    while b"}" not in received:  # the end of the JSON that /livez is
        part = client.recv(65536)
        assert part, received
        received += part
    return received


def test_above_the_limit_the_connection_that_was_idle_longest_is_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with served(ConnectionLimits(connections=3)) as address, ExitStack() as stack:
        silent = []
        for _ in range(3):
            silent.append(stack.enter_context(connected(address)))
            time.sleep(0.05)  # in no order otherwise
        silent[0].sendall(GET)
        assert one_answer(silent[0]).startswith(b"HTTP/1.1 200")
        assert httpx.get(f"{address}/livez").status_code == 200, "a client with a request is served"
        assert answer(silent[1]) == b""
        for other in (silent[0], silent[2]):
            other.sendall(GET)
            assert one_answer(other).startswith(b"HTTP/1.1 200")
    assert caplog.records == []


def test_a_flood_of_idle_connections_does_not_block_other_clients() -> None:
    with served(ConnectionLimits(connections=3)) as address, ExitStack() as stack:
        for _ in range(10):
            for _ in range(8):
                stack.enter_context(connected(address))
            assert httpx.get(f"{address}/livez").status_code == 200


def test_a_connection_that_is_being_served_is_not_closed_for_another() -> None:
    with (
        served(ConnectionLimits(connections=2)) as address,
        httpx.stream("GET", f"{address}/events") as events,
    ):
        lines = events.iter_lines()
        assert next(lines)
        for _ in range(5):
            assert httpx.get(f"{address}/livez").status_code == 200
        assert next(line for line in lines if line.startswith("event: state"))


def test_an_idle_connection_is_closed(impatient: str, caplog: pytest.LogCaptureFixture) -> None:
    started = time.monotonic()
    with connected(impatient) as client:
        answer(client)
        assert SOON / 2 < time.monotonic() - started < LATE
    assert caplog.records == []


def test_a_head_sent_byte_by_byte_gets_no_more_time(impatient: str) -> None:
    with connected(impatient) as client:
        assert dripped(client, b"GET /livez HTTP/1.1\r\nx: " + b"x" * 1000) < LATE


@pytest.mark.parametrize(
    "drops",
    [
        pytest.param(b"GET /livez HTTP/1.1\r\nx: " + b"x" * 1000, id="a head"),
        pytest.param(b"\r\n" * 500, id="empty lines"),
    ],
)
def test_the_next_head_of_a_connection_gets_no_more_time(drops: bytes, impatient: str) -> None:
    with connected(impatient) as client:
        client.sendall(GET)
        one_answer(client)
        assert dripped(client, drops) < LATE


def test_the_body_of_a_request_that_was_answered_gets_no_more_time(impatient: str) -> None:
    with connected(impatient) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 1000000\r\n\r\n")
        one_answer(client)
        assert dripped(client, b"x" * 1000) < LATE


def test_a_connection_in_use_stays_open() -> None:
    limits = ConnectionLimits(head_seconds=2.0)
    with served(limits) as address, connected(address) as client:
        for _ in range(6):
            time.sleep(0.4)  # a busy machine may make it longer
            client.sendall(GET)
            assert one_answer(client).startswith(b"HTTP/1.1 200")


def test_a_slow_response_has_no_time_limit(impatient: str) -> None:
    with httpx.stream("GET", f"{impatient}/events") as events:
        started = time.monotonic()
        for _ in events.iter_lines():
            if time.monotonic() - started > 3 * SOON:
                return
    pytest.fail("the events came to an end")


def test_a_slow_client_gets_its_whole_response() -> None:
    app, size = FastAPI(), 30_000_000

    @app.get("/")
    def long() -> Response:
        return Response(bytes(size))

    with (
        Server(app, "127.0.0.1", 0, ConnectionLimits(head_seconds=SOON)) as server,
        connected(server.address) as slow,
    ):
        slow.sendall(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        received, started = 0, time.monotonic()
        while received < size:
            part = slow.recv(1_000_000)
            assert part, f"cut off after {received} bytes"
            received += len(part)
            if time.monotonic() - started < 4 * SOON:
                time.sleep(SOON / 4)
        assert time.monotonic() - started > 3 * SOON


def test_a_client_that_reads_nothing_is_disconnected() -> None:
    app, gone = FastAPI(), []

    @app.get("/")
    async def long(request: Request) -> Response:
        gone.append(request)
        return Response(bytes(30_000_000))

    limits = ConnectionLimits(connections=1, head_seconds=SOON)
    with Server(app, "127.0.0.1", 0, limits) as server, connected(server.address) as deaf:
        deaf.sendall(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
        deadline = time.monotonic() + LATE
        while not gone:
            time.sleep(0.01)
        while not answers(server.address):
            assert time.monotonic() < deadline, "it keeps its connection"
            time.sleep(0.05)


def answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/nothing").status_code == 404
    except httpx.TransportError:
        return False


LIMIT = 2_000


def head(size: int) -> bytes:
    start, end = b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\nx: ", b"\r\n\r\n"
    return start + b"x" * (size - len(start) - len(end)) + end


@pytest.mark.parametrize("parts", [1, 3, 2_000])
def test_a_head_of_the_maximum_length_is_answered_and_a_longer_one_rejected(parts: int) -> None:
    with served(ConnectionLimits(head_bytes=LIMIT)) as address, connected(address) as client:
        for _ in range(2):  # on the same connection
            for part in cut(head(LIMIT), parts):
                client.sendall(part)
            assert one_answer(client).startswith(b"HTTP/1.1 200")
        for part in cut(head(LIMIT + 1)[:LIMIT], parts):
            client.sendall(part)
        assert answer(client).startswith(b"HTTP/1.1 431 ")


def test_a_body_does_not_count_as_a_head(caplog: pytest.LogCaptureFixture) -> None:
    body = X_NCHW.tobytes() * 50
    headers = AS_RAW | {"shape": "200,1,8,8", "host": "127.0.0.1", "content-length": str(len(body))}
    lines = b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items())
    request = b"POST /predict HTTP/1.1\r\n" + lines + b"\r\n" + body
    limit = 300
    assert len(body) > 10 * limit > 10 * (len(request) - len(body))
    with served(ConnectionLimits(head_bytes=limit)) as address, connected(address) as client:
        client.sendall(request * 3 + GET * 30 + GET.replace(b"\r\nh", b"\r\nconnection: close\r\nh"))
        assert answer(client).count(b"HTTP/1.1 200") == 34
    assert caplog.records == []


def test_the_lengths_of_pipelined_heads_are_not_added_up() -> None:
    with served(ConnectionLimits(head_bytes=LIMIT)) as address, connected(address) as client:
        client.sendall(head(LIMIT) * 5)
        received = b""
        while received.count(b"HTTP/1.1 200") < 5:
            received += client.recv(65536)


POST = b"POST /predict HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: image/png\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(POST + b"content-length: 100\r\n\r\nhalf", id="leaves"),
        pytest.param(POST + b"transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nno chunk\r\n", id="bad chunk"),
    ],
)
def test_an_incomplete_body_is_not_logged_as_an_error(
    request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with served() as address:
        with connected(address) as client:
            client.sendall(request_)
            time.sleep(0.1)
        assert httpx.get(f"{address}/livez").status_code == 200
        time.sleep(0.1)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_missing_body_is_answered_408() -> None:
    with PredictionWorker(PredictorSnapshots(LEARNER), LAYOUT) as predictions:
        app = FastAPI()
        app.include_router(PredictEndpoint(predictions, "finetune", LAYOUT, 20_000, SOON).router())
        with Server(app, "127.0.0.1", 0) as server, connected(server.address) as client:
            client.sendall(POST + b"content-length: 100\r\n\r\nhalf")
            status, _, rest = answer(client).partition(b"\r\n")
    assert status.startswith(b"HTTP/1.1 408 ")
    assert b"the body was not complete within 0.3 seconds" in rest
    assert "408" in app.openapi()["paths"]["/predict"]["post"]["responses"]


def dripped(client: socket.socket, drops: bytes) -> float:
    """Send byte by byte until the service closes the connection; return after how many seconds it did."""
    started = time.monotonic()
    client.settimeout(0.02)
    for i in range(len(drops)):
        try:
            client.sendall(drops[i : i + 1])
            if not client.recv(65536):
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    return time.monotonic() - started


def cut(whole: bytes, parts: int) -> list[bytes]:
    size = -(-len(whole) // parts)
    return [whole[i : i + size] for i in range(0, len(whole), size)]
