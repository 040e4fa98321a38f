"""Receipts as the run goes: what the loop did with a batch, into the ledger and its checkpoints."""

import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, cast

from service.batching import Filled
from service.checkpoint import Checkpoint
from service.events import Event, LedgerStands
from service.learners.base import JSON, Learner, Retention
from service.learners.expiring import Expires
from service.privacy.kept import Kept, TimeToLive
from service.privacy.ledger import Ledger, LedgerMark, Receipt, Span, read_entries
from service.privacy.policy import Policy
from service.privacy.unpurged import Unpurged
from service.state_folder import StateFolder
from service.stream.source import Position

__all__ = ["LEDGER", "Receipts", "mark_of", "open_receipts"]

logger = logging.getLogger("lethe")

LEDGER: Final = "ledger.jsonl"


class Receipts:
    """Writes the receipts of one run; retention and policy are the same for all of them."""

    def __init__(
        self,
        ledger: Ledger,
        topic: str,
        retention: Retention,
        policy: Policy | None,
        ttl: TimeToLive | None = None,
        since: Mapping[str, Any] | None = None,
    ) -> None:
        self._ledger, self._topic, self._retention = ledger, topic, retention
        self._policy = None if policy is None else policy.digest
        purging = None if policy is None else policy.purge
        since = since or {}
        self.unpurged = None if purging is None else Unpurged(purging.within_seconds, since.get("unpurged"))
        """What the policy wants purged and is still there; None where it wants nothing purged."""
        self.kept = None if ttl is None else Kept(ttl, since.get("kept"))
        """The samples that the learner keeps, for a time only; None where it keeps none, or for ever."""

    def discarded(self, filled: Filled, learned_at: float, samples: int) -> None:
        """Write the receipt of a batch that was learned at ``learned_at`` and discarded just now.

        ``samples`` were learned with it. Times are seconds since 1970.
        """
        # a batch without a good sample has no arrival: nothing of it was ever in a slot
        waited = time.monotonic() - filled.arrived if filled.samples else 0.0
        now = time.time()
        if self.kept is not None and filled.samples:
            self.kept.learned(filled.arrived, samples - filled.samples, filled.first)
        if self.unpurged is not None:
            self.unpurged.learned(filled.position.offsets)
        self._ledger.add(
            Receipt(
                kind="batch",
                topic=self._topic,
                spans=_spans(filled.first, filled.position.offsets),
                received=filled.received,
                learned=filled.samples,
                dead_lettered=sum(filled.dead.values()),
                lost=filled.lost,
                received_at=round(now - waited, 6),
                learned_at=round(learned_at, 6),
                discarded_at=round(now, 6),
                retention=self._retention.value,
                policy=self._policy,
            )
        )

    def purged(self, starts: Mapping[int, int]) -> None:
        """Note which of the learned records the broker has forgotten: its logs begin at ``starts``."""
        if self.unpurged is None:
            return
        before = dict(self.unpurged.starts)
        moved = self.unpurged.purged(starts)
        if moved:
            self._other("purge", before, moved)

    def expire(self, learner: Learner, samples: int, position: Position) -> bool:
        """Have ``learner`` let go of what it has kept for long enough; tell whether that was anything.

        It has learned ``samples``, up to ``position``.
        """
        cut = None if self.kept is None else self.kept.overdue(samples, position.offsets)
        if cut is None:
            return False
        if not isinstance(learner, Expires):
            raise TypeError(f"{learner.name} cannot let go of what it keeps, and was let pass")
        gone = learner.expire(cut.samples)
        self._other("expiry", cut.first, cut.ends, erased=gone, received_at=round(time.time() - cut.age, 6))
        return True

    def standing(self) -> Iterator[Event]:
        """Tell where the ledger stands, what the policy sets a time for, and how much of it has passed."""
        yield LedgerStands(self.mark.sequence, self.mark.head)
        if self.unpurged is not None and self.unpurged.asked:
            yield self.unpurged.lag()
        if self.kept is not None:
            yield self.kept.standing()

    def rolled_back(self, position: Position, reached: Mapping[int, int], remembered: int) -> None:
        """Note that what was learned beyond ``position``, up to ``reached``, is unlearned.

        So many samples that had been erased are ``remembered`` again.
        """
        self._other("rollback", position.offsets, reached, erased=remembered)

    def _other(
        self,
        kind: Literal["purge", "rollback", "expiry"],
        first: Mapping[int, int],
        until: Mapping[int, int],
        erased: int = 0,
        received_at: float = 0.0,
    ) -> None:
        now = round(time.time(), 6)
        self._ledger.add(
            Receipt(
                kind,
                self._topic,
                _spans(first, until),
                erased=erased,
                received_at=received_at,
                discarded_at=now,
                retention=self._retention.value,
                policy=self._policy,
            )
        )

    @property
    def mark(self) -> LedgerMark:
        """The newest receipt."""
        return self._ledger.mark

    def snapshot(self) -> JSON:
        """Return what a checkpoint keeps: the chain's head, and the lines not in the file yet."""
        mark = self._ledger.mark
        return {
            "sequence": mark.sequence,
            "head": mark.head,
            "pending": list(self._ledger.pending),
            "unpurged": None if self.unpurged is None else self.unpurged.snapshot(),
            "kept": None if self.kept is None else self.kept.snapshot(),
        }

    def on_disk(self, checkpoint: Checkpoint) -> None:
        """Append the receipts that ``checkpoint`` holds; raises OSError, then they stay pending."""
        if self.kept is not None:
            self.kept.written(cast("dict[str, Any]", checkpoint.ledger)["kept"])
        self._ledger.force(mark_of(checkpoint))


def open_receipts(
    folder: StateFolder | None,
    topic: str,
    retention: Retention,
    policy: Policy | None,
    checkpoint: Checkpoint | None,
    ttl: TimeToLive | None = None,
) -> Receipts | None:
    """Go on with the ledger in ``folder`` from where ``checkpoint`` stands; None without a folder.

    Where the ledger is further than the checkpoint, because a newer one could not be read, it
    gets a receipt of that. Raises InvalidFile when the two do not fit together.
    """
    if folder is None:
        return None
    path = folder.folder / LEDGER
    if checkpoint is None or checkpoint.ledger is None:
        return Receipts(Ledger(path), topic, retention, policy, ttl)
    mark, kept = mark_of(checkpoint), cast("dict[str, Any]", checkpoint.ledger)
    ledger = Ledger(path, mark, kept["pending"])
    if ttl is not None and kept.get("kept") is None:
        kept = kept | {"kept": _since_the_first(path)}
    receipts = Receipts(ledger, topic, retention, policy, ttl, kept)
    if ledger.mark.sequence > mark.sequence:
        after = [entry.receipt for entry in read_entries(path) if entry.mark.sequence > mark.sequence]
        void = (receipt for receipt in after if receipt.kind == "batch")
        reached = {span.partition: span.next for receipt in void for span in receipt.spans}
        remembered = sum(receipt.erased for receipt in after if receipt.kind == "erasure")
        if remembered:
            logger.warning(
                "%d samples that were forgotten are remembered again: forget them anew", remembered
            )
        if reached or remembered:
            receipts.rolled_back(checkpoint.position, reached, remembered)
    return receipts


def _since_the_first(path: Path) -> JSON:
    """Return what `Kept` takes of a run without a time to live until now: all may be of the first batch."""
    for entry in read_entries(path):
        if entry.receipt.kind == "batch" and entry.receipt.learned:
            begins: JSON = {str(span.partition): span.first for span in entry.receipt.spans}
            return {"arrived": [[entry.receipt.received_at, 0, begins]], "on_disk": []}
    return None


def mark_of(checkpoint: Checkpoint) -> LedgerMark:
    """Return the place in the chain at which the checkpoint was taken."""
    kept = cast("dict[str, Any]", checkpoint.ledger)
    return LedgerMark(kept["sequence"], kept["head"])


def _spans(first: Mapping[int, int], until: Mapping[int, int]) -> tuple[Span, ...]:
    return tuple(Span(p, first.get(p, 0), until[p]) for p in sorted(until) if until[p] != first.get(p, 0))
