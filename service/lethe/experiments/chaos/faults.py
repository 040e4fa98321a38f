"""Faults besides kills: in the stream, in the consumer group, and of the topic."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Final, Self

from lethe.errors import InvalidSetting
from lethe_producers.records import Record

__all__ = ["Fault", "Piece", "pieces"]

CHUNK: Final = 250
"""Records of the stream between two possible faults."""
STRETCH: Final = (200, 800)
"""Minimum and maximum length of a run of malformed records."""
SHARE: Final = 0.4
"""Probability of a fault at each such place."""


class Fault(StrEnum):
    """A fault, applied to the run that is killed; `RECREATION` has its own run."""

    MALFORMED = "malformed"
    """Runs of malformed records in the stream."""
    TRANSACTIONS = "transactions"
    """Records are written in transactions, some of which are aborted."""
    MEMBER = "member"
    """Another consumer repeatedly joins the service's group, commits and leaves."""
    RECREATION = "recreation"
    """The topic is deleted and recreated midway."""

    @classmethod
    def of(cls, words: Sequence[str], broker: str | None) -> tuple[Self, ...]:
        """Parse fault names, separated by commas; ``all`` is every fault.

        Raises InvalidSetting for an unknown name, and for a fault that needs a ``broker`` if there is none.
        """
        named = [word for words_ in words for word in words_.split(",") if word]
        for word in named:
            if word not in [*cls, "all"]:
                raise InvalidSetting(f"--faults: {word!r} is not one of {', '.join([*cls, 'all'])}")
        faults = tuple(cls) if "all" in named else tuple(fault for fault in cls if fault in named)
        clustered = [fault for fault in faults if fault != cls.MALFORMED]
        if broker is None and clustered:
            raise InvalidSetting(
                f"--faults: {', '.join(clustered)} need a Kafka cluster, --broker HOST:PORT: the embedded "
                "broker has neither transactions nor topic ids (make kafka runs Apache Kafka)"
            )
        return faults


@dataclass(frozen=True)
class Piece:
    """Records that are written together; not ``committed`` means in a transaction that is aborted."""

    records: Sequence[Record]
    committed: bool = True


def pieces(records: Iterator[Record], faults: Sequence[Fault], seed: int) -> Iterator[Piece]:
    """Split ``records`` into pieces with ``faults`` between them; each kind occurs at the first place."""
    rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
    due = dict.fromkeys((Fault.MALFORMED, Fault.TRANSACTIONS), True)
    for chunk in iter(lambda: list(islice(records, CHUNK)), []):
        if Fault.TRANSACTIONS in faults and due[Fault.TRANSACTIONS]:
            yield Piece(chunk[: rng.randint(1, CHUNK)], committed=False)
        if Fault.MALFORMED in faults and due[Fault.MALFORMED]:
            yield Piece([_garbage(index) for index in range(rng.randint(*STRETCH))])
        yield Piece(chunk)
        due = {fault: rng.random() < SHARE for fault in due}


def _garbage(index: int) -> Record:
    return Record(index, b"", b"no sample %d" % index, [])
