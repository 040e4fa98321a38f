"""The ledger: an append-only file with a receipt for every batch, chained by hashes.

Each receipt is one line of JSON. Receipts become durable with the checkpoint that covers them: the checkpoint
contains those that the file may lack, so a crash neither loses nor repeats one.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from lethe.errors import InvalidFile
from lethe.files.bounded_json import read_json
from lethe.files.private import open_private, reject_symlink, restrict_to_owner
from lethe.privacy.audit.receipt import Receipt, parse_receipt

__all__ = ["Entry", "Ledger", "LedgerMark", "read_entries", "read_until"]

GENESIS: Final = "0" * 64
"""Hash that the first receipt is chained to."""


@dataclass(frozen=True, slots=True)
class LedgerMark:
    """A place in the chain: the number of receipts up to it, and the hash of the last one."""

    sequence: int = 0
    head: str = GENESIS


@dataclass(frozen=True, slots=True)
class Entry:
    """A receipt and its place in the chain."""

    mark: LedgerMark
    receipt: Receipt


class Ledger:
    """Writes receipts into ``path``, continuing at ``mark``.

    ``pending`` are the lines up to ``mark`` that the file may lack, from the checkpoint. Raises InvalidFile
    if the file does not match them.
    """

    def __init__(self, path: Path, mark: LedgerMark | None = None, pending: Sequence[str] = ()) -> None:
        self._path = path
        self.mark = mark or LedgerMark()
        self._pending = list(pending)
        self.first = ""
        """The hash of the first receipt, once it is on the disk: it identifies the ledger."""
        self._latest = -math.inf  # when the newest receipt was written
        self._written = self._tail()
        if self._written.sequence < self.mark.sequence:
            if pending:
                self._latest = float(read_json(pending[-1])["discarded_at"])
            self.force(self.mark)
        elif mark is not None and self._written.sequence == mark.sequence and self._written != mark:
            raise InvalidFile(f"{path}: receipt {mark.sequence} is not the one that the checkpoint names")
        self.mark, self._pending = self._written, []

    def _tail(self) -> LedgerMark:
        """Return the place of the last complete line, and truncate a partial line that a crash left."""
        try:
            reject_symlink(self._path)
        except OSError as error:
            raise InvalidFile(f"{self._path} {error.strerror}") from error
        if not self._path.exists():
            return LedgerMark()
        restrict_to_owner(self._path)
        last = LedgerMark()
        whole = 0
        with self._path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    whole += len(line)
                    entry = _parse(line.decode(), self._path, last)
                    self.first = self.first or entry.mark.head
                    last, self._latest = entry.mark, entry.receipt.discarded_at
        os.truncate(self._path, whole)
        return last

    @property
    def pending(self) -> tuple[str, ...]:
        """Lines that are not in the file yet; a checkpoint stores them with `mark`."""
        return tuple(self._pending)

    def add(self, receipt: Receipt) -> None:
        """Append a receipt to the chain; it is durable once a checkpoint contains it.

        If its time is before the last one's, because the clock was set back, it states by how much.
        """
        step = round(receipt.discarded_at - self._latest, 6)
        if step < 0:
            receipt = replace(receipt, clock_step=step)
        self._latest = receipt.discarded_at
        body = {"sequence": self.mark.sequence + 1, "previous": self.mark.head, **asdict(receipt)}
        head = _hash(body)
        self._pending.append(_canonical(body | {"hash": head}))
        self.mark = LedgerMark(self.mark.sequence + 1, head)

    def force(self, mark: LedgerMark) -> None:
        """Append the pending receipts up to ``mark`` to the file and force them to the disk.

        Raises OSError; they then stay pending. Raises InvalidFile if receipts are missing between the file's
        end and the first pending one.
        """
        first = self.mark.sequence - len(self._pending) + 1
        begin, end = self._written.sequence + 1 - first, mark.sequence + 1 - first
        if begin < 0:
            raise InvalidFile(
                f"{self._path} ends with receipt {self._written.sequence}: the next are missing"
            )
        with open_private(self._path, os.O_APPEND) as file:
            file.writelines(f"{line}\n".encode() for line in self._pending[begin:end])
            file.flush()
            os.fsync(file.fileno())
        if not self._written.sequence and end > begin:
            self.first = str(read_json(self._pending[begin])["hash"])
        self._written = mark
        self._pending = self._pending[end:]


def read_entries(path: Path) -> Iterator[Entry]:
    """Yield every receipt of a ledger in order and verify the chain on the way.

    Raises InvalidFile, naming the receipt, if a byte was changed or a line removed or inserted.
    """
    last = LedgerMark()
    try:
        reject_symlink(path)
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    raise InvalidFile(f"{path}, receipt {last.sequence + 1}: the line has no end")
                entry = _parse(line.decode(), path, last)
                last = entry.mark
                yield entry
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidFile(f"{path}, after receipt {last.sequence}: {error}") from error


def read_until(path: Path, mark: LedgerMark, pending: Sequence[str] = ()) -> Iterator[Entry]:
    """Yield the receipts up to ``mark``: those of the file, and the ``pending`` ones that it may lack.

    Both are from a checkpoint, whose service may be appending to the file. Raises InvalidFile if the receipts
    are not those that the checkpoint names.
    """
    last = LedgerMark()
    try:
        reject_symlink(path)
        with path.open("rb") if path.exists() else BytesIO() as file:
            for line in file:
                if last.sequence == mark.sequence or not line.endswith(b"\n"):
                    break
                entry = _parse(line.decode(), path, last)
                last = entry.mark
                yield entry
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidFile(f"{path}, after receipt {last.sequence}: {error}") from error
    begin = len(pending) - (mark.sequence - last.sequence)
    for text in pending[max(0, begin) :]:
        entry = _parse(f"{text}\n", path, last)
        last = entry.mark
        yield entry
    if last != mark:
        raise InvalidFile(f"{path}: receipt {mark.sequence} is not the one that the checkpoint names")


def _parse(line: str, path: Path, last: LedgerMark) -> Entry:
    try:
        body: dict[str, Any] = read_json(line)
        head = body.pop("hash")
        # the bytes themselves must be as written: another spelling of the same JSON is an edit
        genuine = line == _canonical(body | {"hash": head}) + "\n" and head == _hash(body)
        sequence, previous = body.pop("sequence"), body.pop("previous")
        receipt = parse_receipt(body)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidFile(f"{path}, receipt {last.sequence + 1}: not a receipt ({error})") from error
    if not genuine or type(sequence) is not int or (sequence, previous) != (last.sequence + 1, last.head):
        raise InvalidFile(f"{path}, receipt {last.sequence + 1}: the chain of hashes is broken here")
    return Entry(LedgerMark(last.sequence + 1, head), receipt)


def _canonical(body: dict[str, Any]) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"))


def _hash(body: dict[str, Any]) -> str:
    return hashlib.sha256(_canonical(body).encode()).hexdigest()
