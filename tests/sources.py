"""Test doubles of a topic and of its dead letters, in memory and as awkward as a script says."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from service.errors import MalformedRecord, PositionLost
from service.stream.deadletter import DeadLetters
from service.stream.settings import StreamSettings
from service.stream.source import Record
from service.wire import Headers

__all__ = ["Letters", "MemoryRecord", "MemorySource", "Step"]

Step = Sequence[tuple[int, int]] | Exception
"""What one poll does: hand over so many records of these partitions in this order, or raise."""


@dataclass(frozen=True, slots=True)
class MemoryRecord:
    """A record, with nothing but what the service reads of it."""

    partition: int
    offset: int
    value: bytes | None
    headers: Headers
    timestamp: int = 0


class MemorySource:
    """A `Source` of the given records; when the script ends, a poll hands over all there is."""

    def __init__(self, logs: Mapping[int, Sequence[MemoryRecord]], script: Iterable[Step] = ()) -> None:
        self.logs = {p: list(records) for p, records in logs.items()}
        self.script = list(script)
        self.left_alone: list[set[int]] = []
        self._next: dict[int, int] = {}

    @property
    def partitions(self) -> Sequence[int]:
        return sorted(self.logs)

    @property
    def topic_id(self) -> str | None:
        return "topic-in-memory"

    def seek(self, offsets: Mapping[int, int]) -> Mapping[int, int]:
        for p, log in self.logs.items():
            offset = offsets.get(p, 0)
            if offset > self.ends()[p]:
                raise PositionLost(f"partition {p}: {offset} is past the end")
            self._next[p] = sum(record.offset < offset for record in log)
        return {p: offsets.get(p, 0) for p in self.logs}

    def poll(self, timeout: float, limit: int, full: Collection[int]) -> list[Record]:
        self.left_alone.append(set(full))
        step: Step = self.script.pop(0) if self.script else [(p, limit) for p in self.partitions]
        if isinstance(step, Exception):
            raise step
        records: list[Record] = []
        for p, count in step:
            if p in full or p not in self.logs:
                continue
            count = min(count, limit - len(records))
            records += self.logs[p][self._next[p] : self._next[p] + count]
            self._next[p] = min(self._next[p] + count, len(self.logs[p]))
        return records

    def ends(self) -> Mapping[int, int]:
        return {p: log[-1].offset + 1 if log else 0 for p, log in self.logs.items()}

    def known_ends(self) -> Mapping[int, int]:
        return self.ends()

    def commit(self, offsets: Mapping[int, int], notes: Mapping[int, str]) -> None:
        """Nobody asks this topic for its lag."""

    def close(self) -> None:
        """There is nothing to let go of."""


class Letters(DeadLetters):
    """Dead letters that are kept in a list; ``troubles`` are raised first, one a call."""

    def __init__(
        self, on_send: Iterable[Exception | None] = (), on_flush: Iterable[Exception | None] = ()
    ) -> None:
        super().__init__(StreamSettings())
        self._on_send, self._on_flush = iter(on_send), iter(on_flush)
        self.sent: list[tuple[int, int, str]] = []
        self.acknowledged: list[tuple[int, int, str]] = []

    def send(self, record: Record, error: MalformedRecord) -> None:
        if trouble := next(self._on_send, None):
            raise trouble
        self.sent.append((record.partition, record.offset, error.reason))

    def flush(self) -> None:
        if trouble := next(self._on_flush, None):
            raise trouble
        self.acknowledged = list(self.sent)
