"""The bulletin: what the feed and the broker say, told as events."""

from collections.abc import Mapping

from service.batching import Filled, Start
from service.events import (
    BrokerSeen,
    Emit,
    Lag,
    PurgeHeldUp,
    RecordsDeadLettered,
    RecordsLost,
    RecordsReceived,
    Turned,
)
from service.messages import BrokerState
from service.privacy.receipts import Receipts
from service.stream.source import Purged

__all__ = ["Bulletin"]


class Bulletin:
    """Tells of records, lag, the broker and the purge; what is still as it was is told once."""

    def __init__(self, emit: Emit, receipts: Receipts | None = None) -> None:
        self._emit, self._receipts = emit, receipts
        self._seen: BrokerSeen | None = None
        self._waits_for = ""

    def turned(self, resident: int, kept: int) -> None:
        """Tell that the loop has turned, with so many samples in the service, and kept by the learner."""
        self._emit(Turned(resident, kept))
        self.stood()

    def stood(self) -> None:
        """Tell how the run stands with what its policy sets a time for."""
        if self._receipts is not None:
            for standing in self._receipts.standing():
                self._emit(standing)

    def hear(self, news: BrokerState | Purged | None, start: Start | None) -> None:
        """Tell what came instead of a batch; learning stands at ``start``."""
        if isinstance(news, BrokerState):
            self._hear_state(news, start)
        elif isinstance(news, Purged) and self._receipts is not None:
            self._receipts.purged(news.starts)
            if news.waits_for != self._waits_for:
                self._waits_for = news.waits_for
                self._emit(PurgeHeldUp(news.waits_for))

    def account(self, filled: Filled) -> None:
        """Tell what became of every record that was taken from the topic for a batch."""
        self._emit(RecordsReceived(filled.received))
        for reason, count in filled.dead.items():
            self._emit(RecordsDeadLettered(reason, count))
        if filled.lost:
            self._emit(RecordsLost(filled.lost))
        self._emit(_lag(filled.position.offsets, filled.ends))

    def _hear_state(self, state: BrokerState, start: Start | None) -> None:
        seen = BrokerSeen(state.up, state.detail)
        if seen != self._seen:
            self._emit(seen)
            self._seen = seen
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
