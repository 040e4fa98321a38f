"""Writes the receipts of a run: into the ledger, and into the checkpoints that make them durable."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Protocol, cast

from lethe.checkpointing.checkpoint import Checkpoint
from lethe.checkpointing.state_folder import StateFolder
from lethe.errors import InvalidFile
from lethe.events import Event, LedgerHead, PurgeLag
from lethe.ingest.batcher import FilledBatch
from lethe.learners.base import Learner, Retention
from lethe.learners.capabilities import Expires
from lethe.learners.state import JSON
from lethe.privacy.audit.ledger import Ledger, LedgerMark, read_entries
from lethe.privacy.audit.receipt import Receipt, Span, regime_spans
from lethe.privacy.audit.witness import NoWitness, Witness
from lethe.privacy.deadlines import NoTimeToLive
from lethe.privacy.purge_backlog import NoPurgeBacklog
from lethe.stream.source import Position

__all__ = [
    "LEDGER",
    "LedgerReceipts",
    "ReceiptControls",
    "Receipts",
    "ledger_mark",
    "open_ledger",
    "open_receipts",
    "stored_ledger",
]

logger = logging.getLogger("lethe")

LEDGER: Final = "ledger.jsonl"
NO_TIME_TO_LIVE: Final = NoTimeToLive()
NO_WITNESS: Final = NoWitness()


class ReceiptControls(Protocol):
    """What receipts need of the privacy controls; an audit reads ledgers without loading the rest of them."""

    @property
    def digest(self) -> str | None:
        """SHA-256 of the policy, by which receipts name it; None without a policy."""

    @property
    def purges(self) -> bool:
        """Whether learned records are deleted from the broker."""

    def create_purge_backlog(self, since: JSON) -> NoPurgeBacklog:
        """Return what tracks learned records that are not purged yet; ``since`` is from the checkpoint."""


class Receipts:
    """The receipts of a run without a ledger: nothing is recorded, deleted or purged.

    `LedgerReceipts` overrides every method, so the loop never asks whether there is a ledger.
    """

    unlearned: tuple[int, ...] = ()
    """Batches that were learned after the checkpoint the run continues from, and are lost with their
    checkpoints; one number for each attempt that had continued from there."""

    @property
    def has_deadlines(self) -> bool:
        """Whether older checkpoints have to be replaced in time, because their content has to be deleted."""
        return False

    @property
    def purges(self) -> bool:
        """Whether learned records have to be deleted from the broker."""
        return False

    def discarded(
        self, filled: FilledBatch, learned_at: float, samples: int, regimes: Sequence[int] = ()
    ) -> None:
        """Record a batch that was learned at ``learned_at`` (monotonic clock) and just discarded.

        ``samples`` is the number of samples learned including this batch, ``regimes`` the regime to whose
        sums each of its own was added, if the learner keeps sums by regime.
        """

    def purged(self, starts: Mapping[int, int]) -> None:
        """Record which learned records the broker has deleted: its logs begin at ``starts``."""

    def recreated(self, begins: Mapping[int, int], dead: Mapping[str, int]) -> None:
        """Record that the topic was deleted and created again, and that learning continues at ``begins``.

        ``dead`` counts, by reason, dead-lettered records that are in no batch's receipt.
        """

    def expire(self, learner: Learner, samples: int, position: Position) -> bool:
        """Make ``learner`` delete the samples whose time to live is over; return whether there were any.

        It has learned ``samples`` samples, up to ``position``.
        """
        del learner, samples, position
        return False

    def purge_lag(self) -> PurgeLag:
        """Return how far purging is behind learning."""
        return PurgeLag(0.0, 0, 0.0)

    def only_newest_checkpoint_left(self) -> None:
        """Note that older checkpoints, and the samples in them, were deleted."""

    def status(self) -> Iterator[Event]:
        """Yield the ledger's head, the witness's status and how far each deadline is used up."""
        return iter(())

    def snapshot(self) -> JSON:
        """Return what a checkpoint stores of the ledger; None without one."""
        return None

    def on_disk(self, checkpoint: Checkpoint) -> None:
        """Append the receipts that ``checkpoint`` covers to the ledger. Raises OSError."""


class LedgerReceipts(Receipts):
    """Writes the receipts of one run; all of them name the same retention and policy."""

    def __init__(
        self,
        ledger: Ledger,
        topic: str,
        retention: Retention,
        controls: ReceiptControls,
        ttl: NoTimeToLive = NO_TIME_TO_LIVE,
        since: Mapping[str, Any] | None = None,
        witness: Witness | NoWitness = NO_WITNESS,
    ) -> None:
        self._ledger, self._topic, self._retention, self._witness = ledger, topic, retention, witness
        self._policy = controls.digest
        since = since or {}
        self._purges, self._has_deadlines = controls.purges, controls.purges or ttl.is_limited
        self._backlog = controls.create_purge_backlog(since.get("unpurged"))
        self.deadlines = ttl.create_deadlines(since.get("kept"))
        """When the samples that the learner keeps have to be deleted."""

    @property
    def has_deadlines(self) -> bool:
        """Whether older checkpoints have to be deleted in time."""
        return self._has_deadlines

    @property
    def purges(self) -> bool:
        """Whether learned records have to be deleted from the broker."""
        return self._purges

    def discarded(
        self, filled: FilledBatch, learned_at: float, samples: int, regimes: Sequence[int] = ()
    ) -> None:
        """Record a batch that was learned at ``learned_at`` (monotonic clock) and just discarded.

        Intervals between the times of a receipt are measured on the monotonic clock alone, so setting the
        wall clock meanwhile does not change them.
        """
        now, ticks = time.time(), time.monotonic()
        learned = now - max(0.0, ticks - learned_at)
        # a batch without a valid sample has no arrival time: nothing of it was ever in a slot
        held = filled.samples or filled.unlabelled
        received = min(learned, now - (ticks - filled.arrived)) if held else learned
        if filled.samples:
            self.deadlines.learned(filled.arrived, samples - filled.samples, filled.first)
        self._backlog.learned(filled.position.offsets)
        self._ledger.add(
            Receipt(
                kind="batch",
                topic=self._topic,
                spans=_spans(filled.first, filled.position.offsets),
                received=filled.received,
                learned=filled.samples,
                unlabelled=filled.unlabelled,
                joined=filled.joined,
                dead_lettered=sum(filled.dead.values()),
                lost=filled.lost,
                skipped=filled.skipped,
                received_at=round(received, 6),
                learned_at=round(learned, 6),
                discarded_at=round(now, 6),
                retention=self._retention.value,
                policy=self._policy,
                regimes=regime_spans(filled.places, regimes),
            )
        )

    def purged(self, starts: Mapping[int, int]) -> None:
        """Record which learned records the broker has deleted: its logs begin at ``starts``."""
        before = dict(self._backlog.starts)
        moved = self._backlog.purged(starts)
        if moved:
            self._add("purge", _spans(before, moved))

    def recreated(self, begins: Mapping[int, int], dead: Mapping[str, int]) -> None:
        """Record that the topic was deleted and created again, and that learning continues at ``begins``."""
        self._backlog.restart()
        self.deadlines.restart(begins)
        spans = tuple(Span(partition, offset, offset) for partition, offset in sorted(begins.items()))
        count = sum(dead.values())
        self._add("recreation", spans, received=count, dead_lettered=count)

    def expire(self, learner: Learner, samples: int, position: Position) -> bool:
        """Make ``learner`` delete the samples whose time to live is over; return whether there were any."""
        due = self.deadlines.due(samples, position.offsets)
        if due is None:
            return False
        if not isinstance(learner, Expires):
            raise TypeError(f"{learner.name} cannot delete the samples that it keeps, and was accepted")
        deleted = learner.expire(due.samples)
        oldest = round(time.time() - due.age, 6)
        self._add("expiry", _spans(due.first, due.ends), erased=deleted, received_at=oldest)
        return True

    def purge_lag(self) -> PurgeLag:
        """Return how far purging is behind learning."""
        return self._backlog.lag()

    def only_newest_checkpoint_left(self) -> None:
        """Note that older checkpoints, and the samples in them, were deleted."""
        self.deadlines.only_newest_checkpoint_left()

    def status(self) -> Iterator[Event]:
        """Yield the ledger's head, the witness's status and how far each deadline is used up."""
        mark = self._ledger.mark
        yield LedgerHead(mark.sequence, mark.head)
        yield from self._witness.changes()
        yield from self._backlog.events()
        yield from self.deadlines.events()

    def rolled_back(
        self, position: Position, reached: Mapping[int, int], restored: int, back_to: int
    ) -> None:
        """Record that what was learned after ``position``, up to ``reached``, is unlearned.

        The checkpoint at ``position`` was taken after ``back_to`` receipts. ``restored`` samples that had
        been erased are in the learner again.
        """
        self._add("rollback", _spans(position.offsets, reached), erased=restored, back_to=back_to)

    def _add(
        self,
        kind: Literal["purge", "rollback", "expiry", "recreation"],
        spans: tuple[Span, ...],
        **counts: Any,
    ) -> None:
        self._ledger.add(
            Receipt(
                kind,
                self._topic,
                spans,
                discarded_at=round(time.time(), 6),
                retention=self._retention.value,
                policy=self._policy,
                **counts,
            )
        )

    def snapshot(self) -> JSON:
        """Return what a checkpoint stores: the chain's head, and the lines that are not in the file yet."""
        mark = self._ledger.mark
        return {
            "sequence": mark.sequence,
            "head": mark.head,
            "pending": list(self._ledger.pending),
            "unpurged": self._backlog.snapshot(),
            "kept": self.deadlines.snapshot(),
        }

    def on_disk(self, checkpoint: Checkpoint) -> None:
        """Append the receipts that ``checkpoint`` covers to the ledger, and have the newest witnessed.

        Raises OSError; the receipts then stay pending.
        """
        self.deadlines.checkpoint_written(cast("dict[str, Any]", checkpoint.ledger).get("kept"))
        mark = ledger_mark(checkpoint)
        self._ledger.force(mark)
        if mark.sequence:
            self._witness.note(mark, self._ledger.first)


def open_receipts(
    folder: StateFolder | None,
    topic: str,
    retention: Retention,
    controls: ReceiptControls,
    checkpoint: Checkpoint | None,
    ttl: NoTimeToLive = NO_TIME_TO_LIVE,
    witness: Witness | NoWitness = NO_WITNESS,
) -> Receipts:
    """Continue the ledger in ``folder`` from where ``checkpoint`` stands; without a folder there is none.

    If the ledger is ahead of the checkpoint, because a newer one could not be read, it gets a rollback
    receipt. Its heads are passed to ``witness``. Raises InvalidFile if ledger and checkpoint do not fit
    together.
    """
    if folder is None:
        return Receipts()
    path = folder.folder / LEDGER
    if checkpoint is None or checkpoint.ledger is None:
        return LedgerReceipts(Ledger(path), topic, retention, controls, ttl, None, witness)
    mark, since = ledger_mark(checkpoint), cast("dict[str, Any]", checkpoint.ledger)
    ledger = Ledger(path, mark, since["pending"])
    if ttl.is_limited and since.get("kept") is None:
        since = since | {"kept": _since_the_first(path)}
    receipts = LedgerReceipts(ledger, topic, retention, controls, ttl, since, witness)
    if ledger.mark.sequence > mark.sequence:
        after = [entry.receipt for entry in read_entries(path) if entry.mark.sequence > mark.sequence]
        void = (receipt for receipt in after if receipt.kind == "batch")
        receipts.unlearned = _batches_by_attempt(after)
        reached = {span.partition: span.next for receipt in void for span in receipt.spans}
        restored = sum(receipt.erased for receipt in after if receipt.kind == "erasure")
        if restored:
            logger.warning(
                "the checkpoint that this run continues from still contains %d samples that were erased "
                "later: erase them again with `lethe forget`",
                restored,
            )
        if reached or restored:
            receipts.rolled_back(checkpoint.position, reached, restored, mark.sequence)
    return receipts


def _batches_by_attempt(receipts: Sequence[Receipt]) -> tuple[int, ...]:
    """Return how many batches were learned before each rollback among ``receipts``, and after the last."""
    attempts = [0]
    for receipt in receipts:
        if receipt.kind == "rollback":
            attempts.append(0)
        elif receipt.kind == "batch" and receipt.learned:
            attempts[-1] += 1
    return tuple(batches for batches in attempts if batches)


def _since_the_first(path: Path) -> JSON:
    """Return deadlines for a run that had no time to live so far: every sample counts as old as the first."""
    for entry in read_entries(path):
        if entry.receipt.kind == "batch" and entry.receipt.learned:
            begins: JSON = {str(span.partition): span.first for span in entry.receipt.spans}
            return {"arrived": [[entry.receipt.received_at, 0, begins]], "on_disk": []}
    return None


def ledger_mark(checkpoint: Checkpoint) -> LedgerMark:
    """Return the place in the chain at which the checkpoint was taken."""
    stored = cast("dict[str, Any]", checkpoint.ledger)
    return LedgerMark(stored["sequence"], stored["head"])


def open_ledger(folder: Path, checkpoint: Checkpoint) -> Ledger:
    """Continue the ledger of a stopped service in ``folder`` from its newest ``checkpoint``.

    Raises InvalidFile if the ledger does not belong to the checkpoint, or is ahead of it because a newer
    checkpoint is gone.
    """
    if checkpoint.ledger is None:
        raise InvalidFile(f"the newest checkpoint in {folder} names no ledger")
    path, stored = folder / LEDGER, cast("dict[str, Any]", checkpoint.ledger)
    ledger = Ledger(path, ledger_mark(checkpoint), stored["pending"])
    if ledger.mark != ledger_mark(checkpoint):
        raise InvalidFile(
            f"{path} is ahead of the newest checkpoint: start the service once, to continue from there"
        )
    return ledger


def stored_ledger(ledger: Ledger, checkpoint: Checkpoint) -> JSON:
    """Return what a checkpoint stores of ``ledger``, with the deadlines of an earlier ``checkpoint``."""
    head = {"sequence": ledger.mark.sequence, "head": ledger.mark.head, "pending": list(ledger.pending)}
    return cast("dict[str, Any]", checkpoint.ledger) | head


def _spans(first: Mapping[int, int], until: Mapping[int, int]) -> tuple[Span, ...]:
    return tuple(Span(p, first.get(p, 0), until[p]) for p in sorted(until) if until[p] != first.get(p, 0))
