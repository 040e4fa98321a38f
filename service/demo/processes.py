"""Child processes whose output goes to a file, and which do not outlive the demo."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from service.errors import LetheError
from service.settings import OUTSIDE

__all__ = ["ChildFailed", "Children", "ended_with_error"]

GRACE_SECONDS = 10.0
TAIL_LINES = 15


class ChildFailed(LetheError):
    """A process of the demo ended with an error; carries the end of what it wrote."""


def ended_with_error(name: str, status: int, log: Path) -> ChildFailed:
    """Return the error for a child that ended with ``status``, with the end of what it wrote."""
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
    return ChildFailed(f"{name} ended with status {status}; the end of {log}:\n{tail}")


def _without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave out settings of Lethe: those that hold for a child are given to it, and are all it gets."""
    return {
        name: value for name, value in environment.items() if not name.startswith("LETHE_") or name in OUTSIDE
    }


def _end(number: int, frame: FrameType | None) -> None:
    """Leave every ``with`` in order, as Ctrl-C does; asked once more, go on leaving."""
    del frame
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


class Children:
    """Starts Python modules and stops all of them on exit.

    SIGTERM, which would end this process at once and leave them running, is such an exit, too, unless
    somebody else handles it.
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
        """Run ``command`` with its output in ``log``, and ``env`` besides the variables of this process."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own modules, and programs that we name
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**_without_settings(os.environ), **env},
                start_new_session=True,  # Ctrl-C reaches the demo alone, which stops them in order
            )
        self._children.append((name, process, log))
        return process

    def check(self) -> None:
        """Raise ChildFailed if one has ended with an error."""
        for name, process, log in self._children:
            if process.poll() not in (None, 0):
                raise ended_with_error(name, process.returncode, log)

    def stop(self) -> None:
        """Ask every child to stop, and kill those that do not."""
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
