"""Which records a state has learned, as the receipts of its ledger say."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, Self, cast

from lethe.checkpointing.checkpoint import Checkpoint
from lethe.errors import InvalidFile, NeverLearned
from lethe.privacy.audit.ledger import Entry, read_until
from lethe.privacy.audit.receipt import Receipt, RegimeSpan, Span
from lethe.privacy.audit.receipt_writer import LEDGER, ledger_mark

__all__ = ["LearnedOffsets", "in_force", "receipts_of", "regimes_at"]

UNLEARNING: Final = frozenset({"subtraction", "restoration"})
"""Kinds of receipts whose spans were learned and are unlearned again."""


def receipts_of(folder: Path, checkpoint: Checkpoint) -> Sequence[Receipt]:
    """Return the receipts of all that ``checkpoint`` in ``folder`` has learned and forgotten.

    Raises InvalidFile if it names no ledger, or the one in the folder is not its own.
    """
    if checkpoint.ledger is None:
        raise InvalidFile(f"the checkpoint in {folder} names no ledger, so what it has learned is not known")
    pending = cast("dict[str, Any]", checkpoint.ledger)["pending"]
    return in_force(read_until(folder / LEDGER, ledger_mark(checkpoint), pending))


def in_force(entries: Iterable[Entry]) -> Sequence[Receipt]:
    """Return the receipts of a ledger without those that a later rollback undid, and without rollbacks.

    Raises InvalidFile for a rollback of a version that did not record how far it went back.
    """
    left: list[Entry] = []
    for entry in entries:
        back_to = entry.receipt.back_to
        if entry.receipt.kind != "rollback":
            left.append(entry)
        elif back_to is None:
            raise InvalidFile(f"receipt {entry.mark.sequence}: a rollback that does not say where it began")
        else:
            while left and left[-1].mark.sequence > back_to:
                left.pop()
    return [entry.receipt for entry in left]


@dataclass(frozen=True, slots=True)
class LearnedOffsets:
    """The records that a state has learned, and what was taken out again.

    ``spans`` has one for each partition. The samples of ``subtracted`` spans, and ``erased`` others that no
    receipt names, were learned and are unlearned again; spans of a ``restoration`` count as subtracted. The
    counts are those of `Receipt`.
    """

    topic: str
    spans: Mapping[int, Span]
    subtracted: Sequence[Span]
    received: int
    learned: int
    erased: int
    recreated: bool
    """Whether the topic was deleted and created again: some of what was learned is at no offset."""

    @classmethod
    def of(cls, topic: str, receipts: Iterable[Receipt]) -> Self:
        """Return those of ``receipts``, which are in force and of one topic.

        Raises InvalidFile if the receipts of a partition do not follow one another.
        """
        spans: dict[int, Span] = {}
        subtracted: list[Span] = []
        received = learned = erased = 0
        recreated = False
        for receipt in receipts:
            received += receipt.received
            learned += receipt.learned
            if receipt.kind in {"batch", "merge"}:
                for span in receipt.spans:
                    before = spans.get(span.partition, Span(span.partition, span.first, span.first))
                    if before.next != span.first:
                        raise InvalidFile(
                            f"the ledger leaves out offsets of partition {span.partition}: it continues at "
                            f"{span.first} after {before.next}"
                        )
                    spans[span.partition] = Span(span.partition, before.first, span.next)
            if receipt.kind in {"erasure", "merge"}:
                erased += receipt.erased
            subtracted += receipt.spans if receipt.kind in UNLEARNING else ()
            if receipt.kind == "recreation":
                recreated = True
                spans = {}
        return cls(topic, spans, subtracted, received, learned, erased, recreated)

    def knows(self, partition: int, offset: int) -> bool:
        """Return whether the record at ``offset`` was learned and not subtracted again."""
        span = self.spans.get(partition)
        return (
            span is not None
            and span.first <= offset < span.next
            and not any(s.partition == partition and s.first <= offset < s.next for s in self.subtracted)
        )


def regimes_at(receipts: Iterable[Receipt], places: Sequence[tuple[int, int]]) -> Sequence[int]:
    """Return the regime to whose sums the sample at each place, a partition and an offset, was added.

    ``receipts`` are in force. Raises NeverLearned, naming the place, if one is given twice, or if no sample
    was learned from there, if it is unlearned again, or its receipt does not name a regime.
    """
    spans: dict[int, list[RegimeSpan]] = {}
    unlearned: list[Span] = []
    for receipt in receipts:
        if receipt.kind == "recreation":
            spans, unlearned = {}, []  # the same offsets hold other records since
        unlearned += receipt.spans if receipt.kind in UNLEARNING else ()
        for span in receipt.regimes:
            spans.setdefault(span.partition, []).append(span)
    found: dict[tuple[int, int], int] = {}
    for partition, offset in places:
        own = spans.get(partition, [])
        index = bisect_right(own, offset, key=attrgetter("first")) - 1
        if (partition, offset) in found:
            raise NeverLearned(f"offset {offset} of partition {partition} is given twice")
        if any(s.partition == partition and s.first <= offset < s.next for s in unlearned):
            raise NeverLearned(f"what was learned at offset {offset} of partition {partition} is unlearned")
        if index < 0 or offset >= own[index].next:
            raise NeverLearned(
                f"no receipt says to which regime a sample at offset {offset} of partition {partition} was "
                "added: nothing was learned from there, or by an earlier version"
            )
        found[partition, offset] = own[index].regime
    return list(found.values())
