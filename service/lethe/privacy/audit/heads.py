"""Heads of a ledger as recorded at a witness: one line each, which stands for all receipts up to it."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from lethe.errors import InvalidSetting
from lethe.privacy.audit.ledger import LedgerMark

__all__ = ["HeadLine", "WitnessedHeads", "parse_heads", "read_mark"]

LINE: Final = re.compile(
    r"([0-9]{1,18}):([0-9a-f]{64}) (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3})Z ([0-9a-f]{16})/([0-9a-f]{64})"
)
MARK: Final = re.compile(r"([0-9]{1,18}):([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class HeadLine:
    """A recorded head: which receipt, when, by the service of which state folder, and of which ledger."""

    mark: LedgerMark
    at: float
    """Seconds since 1970, on the service's clock."""
    folder: str
    """`StateFolder.identity`."""
    ledger: str
    """The hash of the ledger's first receipt: a fresh start begins another ledger."""

    def __str__(self) -> str:
        at = datetime.fromtimestamp(self.at, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
        return f"{self.mark.sequence}:{self.mark.head} {at}Z {self.folder}/{self.ledger}"


@dataclass(frozen=True, slots=True)
class WitnessedHeads:
    """All heads that a witness recorded, in order of time, and the state folder to compare with them."""

    lines: Sequence[HeadLine]
    folder: str


def read_mark(text: str) -> LedgerMark:
    """Return the place in the chain that SEQ:HASH names; raises InvalidSetting for anything else."""
    found = MARK.fullmatch(text)
    if found is None:
        raise InvalidSetting(f"head {text!r} is not SEQ:HASH, a number and 64 hex digits, as /state has them")
    return LedgerMark(int(found[1]), found[2])


def parse_heads(lines: Iterable[str]) -> Iterator[HeadLine]:
    """Yield the heads in ``lines``; other text in a line, such as a log's timestamp, is ignored."""
    for line in lines:
        for sequence, head, at, folder, ledger in LINE.findall(line):
            try:
                moment = datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp()
            except ValueError:
                continue  # such as 30 February
            yield HeadLine(LedgerMark(int(sequence), head), moment, folder, ledger)
