"""In-memory doubles of a topic and of its dead letters, with scripted polls and failures."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lethe.errors import MalformedRecord, PositionLost
from lethe.stream.dead_letters import DeadLetters
from lethe.stream.settings import StreamSettings
from lethe.stream.source import Record
from lethe.wire import Headers

__all__ = ["Letters", "MemoryRecord", "MemorySource", "Step"]

Step = Sequence[tuple[int, int]] | Exception
"""What one poll does: hand over so many records of these partitions in this order, or raise."""


@dataclass(frozen=True, slots=True)
class MemoryRecord:
    """A record with only the fields that the service reads."""

    partition: int
    offset: int
    value: bytes | None
    headers: Headers
    timestamp: int = 0
    key: bytes | None = None


class MemorySource:
    """A `Source` of the given records; when the script ends, a poll hands over all there is."""

    def __init__(self, logs: Mapping[int, Sequence[MemoryRecord]], script: Iterable[Step] = ()) -> None:
        self.logs = {p: list(records) for p, records in logs.items()}
        self.script = list(script)
        self.markers: dict[int, set[int]] = {}
        """Offsets, by partition, that hold the marker of a transaction and no record."""
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

    def skipped(self, partition: int, first: int, until: int) -> int:
        return sum(offset in self.markers.get(partition, ()) for offset in range(first, until))

    def reached(self) -> Mapping[int, int]:
        ends = self.ends()
        return {
            p: log[self._next[p]].offset if self._next[p] < len(log) else ends[p]
            for p, log in self.logs.items()
        }

    def ends(self) -> Mapping[int, int]:
        return {
            p: max([log[-1].offset if log else -1, *self.markers.get(p, ())]) + 1
            for p, log in self.logs.items()
        }

    def known_ends(self) -> Mapping[int, int]:
        return self.ends()

    def grown(self) -> bool:
        return False

    def close(self) -> None:
        """Do nothing."""


class Letters(DeadLetters):
    """Dead letters in a list; the errors in ``troubles`` are raised first, one per call."""

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
