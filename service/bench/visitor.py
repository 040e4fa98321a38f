"""A visitor of a service, in a process of its own: watches the page, scrapes metrics, asks for classes."""

import http.client
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import BinaryIO, Final

__all__ = ["Visit", "visit"]

SCRAPE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Visit:
    """Where to go, and what to ask there ``rate`` times a second; 0 asks nothing and only watches."""

    host: str
    port: int
    rate: float
    body: bytes = b""
    headers: Mapping[str, str] | None = None


def visit(connection: Connection, visit: Visit) -> None:
    """Go on until the other side says something, then send it each request's due time and its latency.

    Times are the monotonic clock's, in seconds. A request is due whether the one before was answered
    or not, and what it waited for that counts.
    """
    over = threading.Event()
    latencies: list[tuple[float, float]] = []
    threads = [
        threading.Thread(target=_watch, args=(visit, over), daemon=True),
        threading.Thread(target=_scrape, args=(visit, over), daemon=True),
        threading.Thread(target=_ask, args=(visit, over, latencies), daemon=True),
    ]
    for thread in threads:
        thread.start()
    connection.send("ready")
    connection.recv()
    over.set()
    for thread in threads:
        thread.join(10)
    connection.send(latencies)


def _ask(visit: Visit, over: threading.Event, latencies: list[tuple[float, float]]) -> None:
    due = time.monotonic()
    headers = {"host": visit.host, "content-length": len(visit.body), **(visit.headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"POST /predict HTTP/1.1\r\n{head}\r\n".encode() + visit.body
    with socket.create_connection((visit.host, visit.port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection.makefile("rb") as answers:
            while visit.rate and not over.wait(max(0.0, due - time.monotonic())):
                connection.sendall(request)
                _read_answer(answers)
                latencies.append((due, time.monotonic() - due))
                due += 1 / visit.rate


def _read_answer(answers: BinaryIO) -> None:
    """Read to the end of an answer. A client of a library costs as much as the service does, on its cores."""
    status = answers.readline()
    if b" 200 " not in status:
        raise ConnectionError(f"/predict answered {status!r}")
    length = 0
    while (line := answers.readline()) not in {b"\r\n", b""}:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    answers.read(length)


def _watch(visit: Visit, over: threading.Event) -> None:
    with _client(visit) as client:
        client.request("GET", "/events")
        with client.getresponse() as answer:
            while not over.is_set() and answer.readline():
                pass


def _scrape(visit: Visit, over: threading.Event) -> None:
    while not over.wait(SCRAPE_SECONDS):
        with _client(visit) as client:
            client.request("GET", "/metrics")
            client.getresponse().read()


def _client(visit: Visit) -> closing[http.client.HTTPConnection]:
    return closing(http.client.HTTPConnection(visit.host, visit.port, timeout=30))
