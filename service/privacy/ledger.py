"""The ledger: a receipt for every batch, each chained to the one before by its hash.

One line of JSON a receipt, append-only. A receipt says where samples came from, how many there
were, when they were received, learned and discarded, and under which policy; nothing in it could
identify a sample. Receipts become durable with the checkpoint that covers them: the checkpoint
carries those that the file may not have yet, so a crash neither loses nor repeats one.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from service.errors import InvalidFile

__all__ = ["Entry", "Ledger", "LedgerMark", "Receipt", "Span", "read_entries"]

GENESIS: Final = "0" * 64
"""What the first receipt is chained to."""


@dataclass(frozen=True, slots=True)
class Span:
    """Offsets ``first`` to ``next`` − 1 of a partition."""

    partition: int
    first: int
    next: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was done with spans of records; times are seconds since 1970.

    A ``batch`` was received, learned and discarded. A ``purge``: the broker was told, at
    ``discarded_at``, to forget its spans. A ``rollback``: an older checkpoint had to be taken, and
    what was learned of its spans was unlearned by that; it is learned again. An ``expiry``: a
    learner that keeps samples let go, at ``discarded_at``, of those ``erased`` that it still kept of
    its spans, the oldest received at ``received_at``. An ``erasure``: so many samples were taken back
    out of what the learner had learned, because somebody asked for it. Nothing says which: a receipt
    of an erasure must not bring back what was erased.
    """

    kind: Literal["batch", "purge", "rollback", "expiry", "erasure"]
    topic: str
    spans: Sequence[Span]
    received: int = 0
    learned: int = 0
    dead_lettered: int = 0
    lost: int = 0
    erased: int = 0
    """Samples let go of; in a ``rollback``, taken back out, and in again with the older checkpoint."""
    received_at: float = 0.0
    learned_at: float = 0.0
    discarded_at: float = 0.0
    retention: str = ""
    policy: str | None = None
    """Digest of the policy in force; None without one."""


@dataclass(frozen=True, slots=True)
class LedgerMark:
    """A place in the chain: how many receipts there are up to it, and the last one's hash."""

    sequence: int = 0
    head: str = GENESIS


@dataclass(frozen=True, slots=True)
class Entry:
    """A receipt in its place."""

    mark: LedgerMark
    receipt: Receipt


class Ledger:
    """Writes receipts into ``path``, going on from ``mark``.

    ``pending`` are lines that belong before ``mark`` and that the file may not have: what the
    checkpoint carried. Raises InvalidFile when the file does not fit to them.
    """

    def __init__(self, path: Path, mark: LedgerMark | None = None, pending: Sequence[str] = ()) -> None:
        self._path = path
        self.mark = mark or LedgerMark()
        self._pending = list(pending)
        self._written = self._tail()
        if self._written.sequence < self.mark.sequence:
            self.force(self.mark)
        elif mark is not None and self._written.sequence == mark.sequence and self._written != mark:
            raise InvalidFile(f"{path}: receipt {mark.sequence} is not the one that the checkpoint knows")
        self.mark, self._pending = self._written, []

    def _tail(self) -> LedgerMark:
        """Return the place of the last whole line; half a line, from a crash, is cut off."""
        if not self._path.exists():
            return LedgerMark()
        last = LedgerMark()
        whole = 0
        with self._path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    whole += len(line)
                    last = _parse(line.decode(), self._path, last).mark
        os.truncate(self._path, whole)
        return last

    @property
    def pending(self) -> tuple[str, ...]:
        """Lines that are not in the file yet; belongs into the checkpoint, with `mark`."""
        return tuple(self._pending)

    def add(self, receipt: Receipt) -> None:
        """Chain a receipt to the last one; it is durable once a checkpoint holds it."""
        body = {"sequence": self.mark.sequence + 1, "previous": self.mark.head, **asdict(receipt)}
        head = _hash(body)
        self._pending.append(_canonical(body | {"hash": head}))
        self.mark = LedgerMark(self.mark.sequence + 1, head)

    def force(self, mark: LedgerMark) -> None:
        """Append what is pending up to ``mark`` and force it to the disk.

        Raises OSError; then it stays pending. Raises InvalidFile when receipts between the file's
        end and the first pending one are missing.
        """
        first = self.mark.sequence - len(self._pending) + 1
        begin, end = self._written.sequence + 1 - first, mark.sequence + 1 - first
        if begin < 0:
            raise InvalidFile(
                f"{self._path} ends with receipt {self._written.sequence}: the next are missing"
            )
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in self._pending[begin:end])
            file.flush()
            os.fsync(file.fileno())
        self._written = mark
        self._pending = self._pending[end:]


def read_entries(path: Path) -> Iterator[Entry]:
    """Yield every receipt of a ledger in order, verifying the chain on the way.

    Raises InvalidFile, naming the line, where a byte was changed, or a line removed or inserted.
    """
    last = LedgerMark()
    try:
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    raise InvalidFile(f"{path}, receipt {last.sequence + 1}: the line has no end")
                entry = _parse(line.decode(), path, last)
                last = entry.mark
                yield entry
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidFile(f"{path}, after receipt {last.sequence}: {error}") from error


def _parse(line: str, path: Path, last: LedgerMark) -> Entry:
    try:
        body: dict[str, Any] = json.loads(line)
        head = body.pop("hash")
        # the bytes themselves must be those that were written: another spelling is an edit
        genuine = line == _canonical(body | {"hash": head}) + "\n" and head == _hash(body)
        place = body.pop("sequence"), body.pop("previous")
        receipt = Receipt(**body | {"spans": tuple(Span(**span) for span in body["spans"])})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidFile(f"{path}, receipt {last.sequence + 1}: not a receipt ({error})") from error
    if not genuine or place != (last.sequence + 1, last.head):
        raise InvalidFile(f"{path}, receipt {last.sequence + 1}: the chain of hashes is broken here")
    return Entry(LedgerMark(last.sequence + 1, head), receipt)


def _canonical(body: dict[str, Any]) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"))


def _hash(body: dict[str, Any]) -> str:
    return hashlib.sha256(_canonical(body).encode()).hexdigest()
