"""Records the heads of a ledger at a witness, which those who can write the state folder cannot change.

A chain of hashes reveals an edit of a part of it. Those who can write ledger and checkpoints can write all
of them again, or restore older ones; a copy of the heads elsewhere reveals that. A head stands for all
receipts up to it, so the next head makes up for one that could not be recorded.
"""

import logging
import os
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from lethe.errors import InvalidFile, InvalidSetting, LetheError
from lethe.events import WitnessStatus
from lethe.privacy.audit.heads import HeadLine, WitnessedHeads, parse_heads
from lethe.privacy.audit.ledger import LedgerMark
from lethe.settings import TOPIC_PREFIX
from lethe.stream.line_topic import LineTopic, read_lines
from lethe.stream.settings import StreamSettings

__all__ = ["HeadSink", "NoWitness", "Witness", "open_witness", "read_witness"]

logger = logging.getLogger("lethe")

RETRY_SECONDS: Final = 5.0
LAST_SECONDS: Final = 6.0
"""How long a service that ends waits for its last head to be recorded."""


def read_witness(where: str, stream: StreamSettings, folder: Path) -> WitnessedHeads:
    """Return the heads recorded in a file, or in a topic of ``stream``'s cluster.

    ``folder`` is the state folder whose ledger is to be verified. Raises InvalidFile, InvalidSetting,
    BrokerUnavailable, PositionLost.
    """
    try:
        if where.startswith(TOPIC_PREFIX):
            lines: Iterable[str] = read_lines(stream, where.removeprefix(TOPIC_PREFIX))
        else:
            lines = Path(where).read_text(encoding="utf-8", errors="replace").splitlines()
        identity = (folder / "lock").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InvalidFile(f"witness {where}, or {folder / 'lock'}: {error}") from error
    return WitnessedHeads(sorted(parse_heads(lines), key=lambda line: line.at), identity)


class HeadSink(Protocol):
    """Where heads are recorded: something that lines are appended to."""

    def append(self, line: str, key: str) -> None:
        """Append a line; ``key`` names the state folder. Raises OSError, LetheError."""

    def close(self) -> None:
        """Release what is open; nothing is appended afterwards."""


class LineFile:
    """Appends lines to a file, a named pipe or a device."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, line: str, key: str) -> None:
        """Append a line, and force it to the disk if it is in a regular file. Raises OSError."""
        del key
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK  # a pipe without reader must not block
        descriptor = os.open(self._path, flags, 0o600)
        try:
            content = f"{line}\n".encode()
            if os.write(descriptor, content) != len(content):
                raise OSError(f"{self._path} took only a part of a line")
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Release nothing: the file is opened for each line."""


class NoWitness:
    """A run without a witness: heads are recorded nowhere else."""

    def note(self, mark: LedgerMark, ledger: str) -> None:
        """Ignore a head."""

    def changes(self) -> Iterator[WitnessStatus]:
        """Yield nothing."""
        return iter(())


class Witness:
    """Records the newest head in a thread of its own: neither learning nor checkpoints wait for it.

    A head that cannot be recorded is tried again every ``retry_seconds``, until a newer one replaces it.
    """

    def __init__(self, sink: HeadSink, folder: str, name: str, retry_seconds: float = RETRY_SECONDS) -> None:
        self._sink, self._folder, self._name, self._retry = sink, folder, name, retry_seconds
        self._changed = threading.Condition()
        self._newest: HeadLine | None = None
        self._recorded = LedgerMark()
        self._failure = ""
        self._closing = False
        self._last: WitnessStatus | None = None
        self._thread = threading.Thread(target=self._run, name="lethe-witness", daemon=True)
        self._thread.start()

    def note(self, mark: LedgerMark, ledger: str) -> None:
        """Have ``mark`` recorded, of the ledger whose first receipt has the hash ``ledger``."""
        with self._changed:
            self._newest = HeadLine(mark, time.time(), self._folder, ledger)
            self._changed.notify()

    def changes(self) -> Iterator[WitnessStatus]:
        """Yield the status if it has changed since the last call."""
        with self._changed:
            if self._newest is None or not (self._failure or self._recorded.sequence):
                return
            status = WitnessStatus(not self._failure, self._recorded.sequence, self._failure)
        if status != self._last:
            self._last = status
            yield status

    def close(self) -> None:
        """Wait up to `LAST_SECONDS` for the newest head to be recorded; log a warning if it is not."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(LAST_SECONDS)
        with self._changed:
            if self._newest is not None and self._newest.mark != self._recorded:
                logger.warning(
                    "the last head of the ledger was not recorded at the witness %s (%s): %s",
                    self._name,
                    self._failure or "no answer",
                    self._newest,
                )

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closing and (self._newest is None or self._newest.mark == self._recorded):
                    self._changed.wait()
                line, closing = self._newest, self._closing
            if line is not None and line.mark != self._recorded:
                failure = self._record(line)
                with self._changed:
                    self._failure = failure
                    if not failure:
                        self._recorded = line.mark
                    elif not closing:
                        self._changed.wait(self._retry)
            if closing:
                self._sink.close()
                return

    def _record(self, line: HeadLine) -> str:
        """Append a line to the sink; return why that failed, empty if it did not."""
        try:
            self._sink.append(str(line), self._folder)
        except OSError as error:
            return f"{self._name}: {error.strerror or error}"
        except LetheError as error:
            return f"{self._name}: {error}"
        return ""


@contextmanager
def open_witness(
    where: str | None, stream: StreamSettings, folder: str | None
) -> Iterator[Witness | NoWitness]:
    """Yield the witness at ``where``, for the state folder of identity ``folder``; without one, none.

    Raises InvalidSetting if there is no state folder, and so no ledger.
    """
    if where is None:
        yield NoWitness()
        return
    if folder is None:
        raise InvalidSetting("privacy.witness records the heads of a ledger: --state says where that is kept")
    is_topic = where.startswith(TOPIC_PREFIX)
    sink: HeadSink = (
        LineTopic(stream, where.removeprefix(TOPIC_PREFIX)) if is_topic else LineFile(Path(where))
    )
    witness = Witness(sink, folder, where)
    try:
        yield witness
    finally:
        witness.close()
