"""Translates messages of the feed, from the reader process and the broker, into events."""

from collections import Counter, defaultdict
from collections.abc import Mapping

from lethe.events import (
    BatchReturned,
    BrokerStatus,
    CommitStatus,
    Emit,
    Lag,
    LoopTurned,
    PurgeBlocked,
    RecordsDeadLettered,
    RecordsLost,
    RecordsReceived,
)
from lethe.ingest.batcher import AcknowledgedDeadLetters, FilledBatch, Start
from lethe.ingest.messages import BrokerState, CommitState, IncompleteBatchDiscarded
from lethe.privacy.audit.receipt_writer import Receipts
from lethe.stream.source import Purged

__all__ = ["FeedEvents"]


class FeedEvents:
    """Emits events about records, lag, the broker and the purge; an unchanged status is emitted once.

    Malformed records are *unsettled* while they are counted but their batch is not complete: a restart reads
    them again, and must not count them twice.
    """

    def __init__(self, emit: Emit, receipts: Receipts) -> None:
        self._emit, self._receipts = emit, receipts
        self._broker: BrokerStatus | None = None
        self._unsettled_of: dict[int, Counter[str]] = defaultdict(Counter)
        """By rank, as each has a batch that is being filled."""
        self._waits_for = ""

    def turned(self, resident: int, kept: int) -> None:
        """Emit that the loop turned, with samples ``resident`` in the service and ``kept`` by the learner."""
        self._emit(LoopTurned(resident, kept))
        self.report_status()

    def report_status(self) -> None:
        """Emit the ledger's head and how far each deadline of the policy is used up."""
        for event in self._receipts.status():
            self._emit(event)

    def handle(
        self,
        message: BrokerState | CommitState | IncompleteBatchDiscarded | Purged | None,
        start: Start | None,
    ) -> None:
        """Emit what came instead of a batch; learning is at ``start``."""
        match message:
            case BrokerState():
                self._handle_broker(message, start)
            case CommitState():
                self._emit(CommitStatus(message.failure))
            case IncompleteBatchDiscarded():
                self._emit(BatchReturned(message.times))
            case Purged():
                self._receipts.purged(message.starts)
                if message.waits_for != self._waits_for:
                    self._waits_for = message.waits_for
                    self._emit(PurgeBlocked(message.waits_for))

    @property
    def unsettled(self) -> Mapping[str, int]:
        """Unsettled malformed records, by reason."""
        return dict(sum(self._unsettled_of.values(), Counter[str]()))

    def count_unsettled(self, acknowledged: AcknowledgedDeadLetters) -> None:
        """Count malformed records before the batch that contains them is complete."""
        unsettled = self._unsettled_of[acknowledged.rank]
        dead = Counter(acknowledged.dead) - unsettled
        self._count(dead.total(), dead)
        unsettled |= Counter(acknowledged.dead)

    def discard_unsettled(self) -> Mapping[str, int]:
        """Return the unsettled records, which will not be read again, and clear them."""
        unsettled = self.unsettled
        self._unsettled_of.clear()
        return unsettled

    def account(self, filled: FilledBatch) -> None:
        """Emit what became of every record that was taken from the topic for a batch."""
        unsettled = self._unsettled_of.pop(filled.rank, Counter())
        self._count(filled.received - unsettled.total(), Counter(filled.dead) - unsettled)
        if filled.lost:
            self._emit(RecordsLost(filled.lost))
        self._emit(_lag(filled.position.offsets, filled.ends))

    def _count(self, received: int, dead: Mapping[str, int]) -> None:
        self._emit(RecordsReceived(received))
        for reason, count in dead.items():
            self._emit(RecordsDeadLettered(reason, count))

    def _handle_broker(self, state: BrokerState, start: Start | None) -> None:
        status = BrokerStatus(state.up, state.detail)
        if status != self._broker:
            self._emit(status)
            self._broker = status
        if state.start is None:
            return
        learned = (start or state.start).position.offsets
        ends = state.start.position.ends
        self._emit(_lag({partition: learned.get(partition, end) for partition, end in ends.items()}, ends))


def _lag(offsets: Mapping[int, int], ends: Mapping[int, int]) -> Lag:
    records = {
        partition: max(0, ends.get(partition, offset) - offset) for partition, offset in offsets.items()
    }
    return Lag(offsets, records)
