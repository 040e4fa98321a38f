"""A visitor of a service, in a process of its own: watches the page, scrapes metrics, asks for classes."""

import http.client
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Final

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
    threads = [threading.Thread(target=act, args=(visit, over), daemon=True) for act in (_watch, _scrape)]
    for thread in threads:
        thread.start()
    connection.send("ready")
    latencies: list[tuple[float, float]] = []
    if visit.rate:
        asking = threading.Thread(target=_ask, args=(visit, over, latencies), daemon=True)
        asking.start()
    connection.recv()
    over.set()
    if visit.rate:
        asking.join(10)
    connection.send(latencies)


def _ask(visit: Visit, over: threading.Event, latencies: list[tuple[float, float]]) -> None:
    client = http.client.HTTPConnection(visit.host, visit.port, timeout=30)
    due = time.monotonic()
    while not over.is_set():
        time.sleep(max(0.0, due - time.monotonic()))
        client.request("POST", "/predict", visit.body, dict(visit.headers or {}))
        answer = client.getresponse()
        answer.read()
        if answer.status != http.client.OK:
            raise ConnectionError(f"/predict answered {answer.status}")
        latencies.append((due, time.monotonic() - due))
        due += 1 / visit.rate


def _watch(visit: Visit, over: threading.Event) -> None:
    client = http.client.HTTPConnection(visit.host, visit.port, timeout=30)
    client.request("GET", "/events")
    answer = client.getresponse()
    while not over.is_set() and answer.readline():
        pass


def _scrape(visit: Visit, over: threading.Event) -> None:
    while not over.wait(SCRAPE_SECONDS):
        client = http.client.HTTPConnection(visit.host, visit.port, timeout=30)
        client.request("GET", "/metrics")
        client.getresponse().read()
        client.close()
