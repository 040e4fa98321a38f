"""Child processes that write to a log file and end with their parent; the settings they are started with."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final, Self

from lethe.errors import LetheError
from lethe.settings import OTHER_VARIABLES, Settings, variable

__all__ = ["ChildFailed", "Children", "ended_with_error", "environment", "free_port"]

GRACE_SECONDS = 10.0
TAIL_LINES = 15
PORTS: Final = range(20_000, 32_768)
"""Below Linux's ephemeral ports: no outgoing connection gets one between its choice and its use."""

_shuffled_ports: Final = cycle(random.SystemRandom().sample(PORTS, len(PORTS)))


class ChildFailed(LetheError):
    """A child process ended with an error; carries the end of its log."""

    multiline = True


def ended_with_error(name: str, status: int, log: Path) -> ChildFailed:
    """Return the error for a child that ended with ``status``, with the last lines of its log."""
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
    return ChildFailed(f"{name} ended with status {status}; the end of {log}:\n{tail}")


def _without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Drop this process's own Lethe settings: a child gets only those that it is given."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith("LETHE_") or name in OTHER_VARIABLES
    }


def _end(number: int, frame: FrameType | None) -> None:
    """Exit through every ``with``, as Ctrl-C does; a second signal is ignored."""
    del frame
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


class Children:
    """Child processes, all of which are stopped on exit.

    SIGTERM, which would end this process at once and leave its children running, exits too, unless it
    has a handler already.
    """

    def __init__(self) -> None:
        self._children: list[tuple[str, subprocess.Popen[bytes], Path]] = []
        self._handles = False

    def start(
        self, name: str, module: str, arguments: Sequence[str], log: Path, env: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Run ``python -m module arguments`` with its output in ``log``."""
        return self.run(name, [sys.executable, "-m", module, *arguments], log, env)

    def run(
        self, name: str, command: Sequence[str], log: Path, env: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Run ``command`` with its output in ``log``; ``env`` is added to this process's variables."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own modules and fixed programs
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**_without_settings(os.environ), **env},
                start_new_session=True,  # Ctrl-C reaches the parent only, which stops them in order
            )
        self._children.append((name, process, log))
        return process

    def check(self) -> None:
        """Raise ChildFailed if a child has ended with an error."""
        for name, process, log in self._children:
            if process.poll() not in (None, 0):
                raise ended_with_error(name, process.returncode, log)

    def stop(self) -> None:
        """Send every child SIGTERM; kill those that have not ended after 10 seconds."""
        for _, process, _ in reversed(self._children):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for _, process, _ in reversed(self._children):
            try:
                process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def __enter__(self) -> Self:
        self._handles = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        if self._handles:
            signal.signal(signal.SIGTERM, _end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._handles:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables with which ``lethe run`` has these settings: those that were given, and no other.

    One that was given and is equal to the default counts: a learner's own value may take a default's place.
    """
    return {
        variable(section, name): json.dumps(value) if isinstance(value, dict) else str(value)
        for section in Settings.model_fields
        for name, value in getattr(settings, section).model_dump(exclude_unset=True).items()
        if value is not None
    }


def free_port() -> int:
    """Return a port of the loopback address that no process is bound to, another one at each call."""
    return next(port for port in _shuffled_ports if _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
