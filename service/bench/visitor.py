"""A visitor of a service, in a process of its own: watches the page, scrapes metrics, asks for classes."""

import http.client
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import BinaryIO, Final

__all__ = ["SIDES", "Visit", "visit", "visit_apart"]

SIDES: Final = ("alone", "watched", "asked")
"""What a visitor can be told to do: nothing; watch the page and scrape; ask for classes, too."""
SCRAPE_SECONDS: Final = 5.0
_TICK_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Visit:
    """Where to go, and what to ask there ``rate`` times a second."""

    host: str
    port: int
    rate: float
    body: bytes = b""
    headers: Mapping[str, str] | None = None


class _Orders:
    """What the visitor's threads shall do, which another one is told."""

    def __init__(self) -> None:
        self.watch, self.ask, self.leave = threading.Event(), threading.Event(), threading.Event()

    def obey(self, order: str) -> None:
        for event, sides in ((self.watch, {"watched", "asked"}), (self.ask, {"asked"})):
            (event.set if order in sides else event.clear)()
        if order not in SIDES:
            self.leave.set()


def visit(connection: Connection, visit: Visit) -> None:
    """Do what the other side says, which is one of `SIDES`; at anything else, leave.

    Then send it each request's due time and its latency, on the monotonic clock, in seconds, and why
    something broke off, or None. A request is due whether the one before was answered or not, and what
    it waited for that counts.
    """
    orders, latencies, failures = _Orders(), list[tuple[float, float]](), list[str]()

    def do(errand: Callable[[], None]) -> None:
        try:
            errand()
        except OSError as error:
            failures.append(f"{type(error).__name__}: {error}")

    errands = (
        partial(_watch, visit, orders),
        partial(_scrape, visit, orders),
        partial(_ask, visit, orders, latencies),
    )
    threads = [threading.Thread(target=do, args=(errand,), daemon=True) for errand in errands]
    for thread in threads:
        thread.start()
    connection.send("ready")
    while not orders.leave.is_set():
        try:
            orders.obey(connection.recv())
        except EOFError:
            orders.leave.set()  # whoever gave them is gone, and nobody waits for an answer
            return
    for thread in threads:
        thread.join(10)
    connection.send((latencies, failures[0] if failures else None))


def visit_apart(connection: Connection, wanted: Visit) -> None:
    """Do the same as a process's target: Ctrl-C is for whoever gives the orders."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    visit(connection, wanted)


def _ask(visit: Visit, orders: _Orders, latencies: list[tuple[float, float]]) -> None:
    headers = {"host": visit.host, "content-length": len(visit.body), **(visit.headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"POST /predict HTTP/1.1\r\n{head}\r\n".encode() + visit.body
    while not orders.leave.is_set():
        if not orders.ask.wait(_TICK_SECONDS):
            continue
        # a connection a turn: the service closes one on which nothing is asked for long
        with socket.create_connection((visit.host, visit.port), timeout=30) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            due = time.monotonic()
            with connection.makefile("rb") as answers:
                while not orders.leave.wait(max(0.0, due - time.monotonic())) and orders.ask.is_set():
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


def _watch(visit: Visit, orders: _Orders) -> None:
    request = f"GET /events HTTP/1.1\r\nhost: {visit.host}\r\n\r\n".encode()
    while not orders.leave.is_set():
        if not orders.watch.wait(_TICK_SECONDS):
            continue
        with socket.create_connection((visit.host, visit.port), timeout=30) as connection:
            connection.sendall(request)
            connection.settimeout(_TICK_SECONDS)
            while orders.watch.is_set() and not orders.leave.is_set():
                with suppress(TimeoutError):  # nothing new yet
                    if not connection.recv(1 << 16):
                        raise ConnectionError("/events broke off")


def _scrape(visit: Visit, orders: _Orders) -> None:
    left = SCRAPE_SECONDS
    while not orders.leave.wait(_TICK_SECONDS):
        left -= _TICK_SECONDS * orders.watch.is_set()
        if left <= 0:
            with _client(visit) as client:
                client.request("GET", "/metrics")
                client.getresponse().read()
            left += SCRAPE_SECONDS


def _client(visit: Visit) -> closing[http.client.HTTPConnection]:
    return closing(http.client.HTTPConnection(visit.host, visit.port, timeout=30))
