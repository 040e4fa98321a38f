"""An HTTP client that loads a service: follows the live page, scrapes metrics and requests predictions."""

import http.client
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from multiprocessing.connection import Connection
from typing import BinaryIO, Final

__all__ = ["SIDES", "LoadTarget", "load_client_process", "run_load_client"]

SIDES: Final = ("alone", "watched", "asked")
"""Loads: none; follow /events and scrape /metrics; also request predictions."""
SCRAPE_SECONDS: Final = 5.0
_TICK_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class LoadTarget:
    """The service's address, and the prediction request to send ``rate`` times a second."""

    host: str
    port: int
    rate: float
    body: bytes = b""
    headers: Mapping[str, str] | None = None


class _Commands:
    """Commands to the client's threads."""

    def __init__(self) -> None:
        self.watch, self.ask, self.leave = threading.Event(), threading.Event(), threading.Event()

    def apply(self, command: str) -> None:
        for event, sides in ((self.watch, {"watched", "asked"}), (self.ask, {"asked"})):
            (event.set if command in sides else event.clear)()
        if command not in SIDES:
            self.leave.set()


def run_load_client(connection: Connection, target: LoadTarget) -> None:
    """Run the load named by each message on ``connection``, one of `SIDES`; stop at any other message.

    On stopping, send the due time and latency of each request, in seconds of the monotonic clock, and
    the first failure, or None. Requests are due at a fixed rate: time spent waiting for an earlier
    response counts towards the latency.
    """
    commands, latencies, failures = _Commands(), list[tuple[float, float]](), list[str]()

    def do(task: Callable[[], None]) -> None:
        try:
            task()
        except OSError as error:
            failures.append(f"{type(error).__name__}: {error}")

    tasks = (
        partial(_watch, target, commands),
        partial(_scrape, target, commands),
        partial(_ask, target, commands, latencies),
    )
    threads = [threading.Thread(target=do, args=(task,), daemon=True) for task in tasks]
    for thread in threads:
        thread.start()
    connection.send("ready")
    while not commands.leave.is_set():
        try:
            commands.apply(connection.recv())
        except EOFError:
            commands.leave.set()  # the parent process has ended
            return
    for thread in threads:
        thread.join(10)
    connection.send((latencies, failures[0] if failures else None))


def load_client_process(connection: Connection, target: LoadTarget) -> None:
    """Run the client as a process's target; Ctrl-C is left to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run_load_client(connection, target)


def _ask(target: LoadTarget, commands: _Commands, latencies: list[tuple[float, float]]) -> None:
    headers = {"host": target.host, "content-length": len(target.body), **(target.headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"POST /predict HTTP/1.1\r\n{head}\r\n".encode() + target.body
    while not commands.leave.is_set():
        if not commands.ask.wait(_TICK_SECONDS):
            continue
        # one connection per turn: the service closes idle ones
        with socket.create_connection((target.host, target.port), timeout=30) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            due = time.monotonic()
            with connection.makefile("rb") as answers:
                while not commands.leave.wait(max(0.0, due - time.monotonic())) and commands.ask.is_set():
                    connection.sendall(request)
                    _read_answer(answers)
                    latencies.append((due, time.monotonic() - due))
                    due += 1 / target.rate


def _read_answer(answers: BinaryIO) -> None:
    """Read one response. A library client would use as much CPU as the service that is measured."""
    _read_status(answers, "/predict")
    length = 0
    while (line := answers.readline()) not in {b"\r\n", b""}:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    answers.read(length)


def _read_status(answers: BinaryIO, path: str) -> None:
    status = answers.readline()
    if b" 200 " not in status:
        raise ConnectionError(f"{path} answered {status!r}")


def _watch(target: LoadTarget, commands: _Commands) -> None:
    request = f"GET /events HTTP/1.1\r\nhost: {target.host}\r\n\r\n".encode()
    while not commands.leave.is_set():
        if not commands.watch.wait(_TICK_SECONDS):
            continue
        with socket.create_connection((target.host, target.port), timeout=30) as connection:
            connection.sendall(request)
            with connection.makefile("rb") as answers:
                _read_status(answers, "/events")
            connection.settimeout(_TICK_SECONDS)
            while commands.watch.is_set() and not commands.leave.is_set():
                with suppress(TimeoutError):  # no event yet
                    if not connection.recv(1 << 16):
                        raise ConnectionError("/events was closed by the service")


def _scrape(target: LoadTarget, commands: _Commands) -> None:
    left = SCRAPE_SECONDS
    while not commands.leave.wait(_TICK_SECONDS):
        left -= _TICK_SECONDS * commands.watch.is_set()
        if left <= 0:
            with _client(target) as client:
                client.request("GET", "/metrics")
                response = client.getresponse()
                if response.status != HTTPStatus.OK:
                    raise ConnectionError(f"/metrics answered {response.status} {response.reason}")
                response.read()
            left += SCRAPE_SECONDS


def _client(target: LoadTarget) -> closing[http.client.HTTPConnection]:
    return closing(http.client.HTTPConnection(target.host, target.port, timeout=30))
