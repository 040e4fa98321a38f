"""Labels that come later than their samples, from a topic of their own, joined by the key of the record."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from lethe.errors import InvalidSetting
from lethe.ingest.settled_offsets import SettledOffsets
from lethe.settings import LabelSettings
from lethe.stream.settings import StreamSettings
from lethe.stream.source import Record, Source

__all__ = [
    "LONGEST_LABEL",
    "NO_LABELS",
    "WHY_OWN_PARTITIONS",
    "LateLabels",
    "NoLateLabels",
    "labels_stream",
]

AT_ONCE: Final = 2000
LONGEST_LABEL: Final = 1024
"""Maximum bytes of a label, and of its key."""
MOST_BYTES: Final = 64 << 20
"""Of the keys and labels that wait for their samples; beyond it, no more are read."""


WHY_OWN_PARTITIONS: Final = (
    "where several read a topic, each reads the labels in the partitions of its own samples; give both "
    "topics the same number of partitions, and send a label to the partition of its sample, where the same "
    "partitioner puts the same key"
)
NONE_SETTLED: Final[Mapping[int, str]] = MappingProxyType({})


def labels_stream(stream: StreamSettings, labels: LabelSettings) -> StreamSettings:
    """Return how the topic of labels is read where samples are read from ``stream``: the same partitions."""
    # a label that is gone leaves its record without one, and no more
    return stream.model_copy(update={"topic": labels.topic, "accept_loss": True})


class NoLateLabels:
    """Every record has its label, or has none: what applies without a topic of labels."""

    def read_from(self, offsets: Mapping[int, int], settled: Mapping[int, str] = NONE_SETTLED) -> None:
        """Forget every label that waits, and read from ``offsets`` on; without any, from the start.

        Those that are ``settled`` are skipped.
        """

    @property
    def partitions(self) -> Sequence[int]:
        """The partitions of the topic of labels that are read, in ascending order."""
        return ()

    def poll(self) -> None:
        """Read the labels that have come, without waiting for more. Raises the errors of the source."""

    def awaits(self, record: Record, received: float) -> bool:
        """Return whether the label of a record may still come; it was ``received`` at a monotonic time."""
        del record, received
        return False

    def take(self, record: Record) -> bytes | None:
        """Return the label that has come for a record, which then is used up; None if there is none.

        Raises InvalidSetting if labels have to be in the partitions of their samples, and it is not.
        """
        del record
        return None

    @property
    def position(self) -> Mapping[int, int]:
        """The offsets from which a restart has to read labels: none before them is needed any more."""
        return {}

    @property
    def settled(self) -> Mapping[int, str]:
        """Which labels from `position` on are joined or dropped, by partition: `SettledOffsets.text`."""
        return {}

    @property
    def held(self) -> float:
        """Seconds since the oldest label that waits for its sample was read; 0 if none waits."""
        return 0.0

    @property
    def full(self) -> bool:
        """Whether so many labels wait for their samples that no more are read."""
        return False

    @property
    def grown(self) -> bool:
        """Whether the topic has partitions that it had not when it was opened."""
        return False

    def dropped(self) -> Mapping[str, int]:
        """Return how many labels were dropped, by reason, since the last call or `read_from`."""
        return {}

    def release(self) -> None:
        """Forget every label that waits; it is read again when a record waits for one."""

    def close(self) -> None:
        """Close the connection and forget every label that waits."""


NO_LABELS: Final = NoLateLabels()


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A label that waits for its sample."""

    label: bytes
    partition: int
    offset: int
    timestamp: int
    read_at: float


class LateLabels(NoLateLabels):
    """Joins a record without a label with the label that comes within ``wait`` seconds under the same key.

    The times that count are the timestamps of both records. While no later label comes, a record waits for
    ``wait`` seconds since it was received, or since the labels that were there when the topic was opened are
    read. A record that has waited in vain is not joined when it is read again: its dead letter may be sent.

    A label is for one record. Several under one key replace each other. At most about ``most`` labels wait
    for their samples. ``open_source`` opens their topic. With ``own_partitions``, others read other
    partitions of both topics: a label has to be in the partition with the number of its sample's.

    Each label is joined or dropped once: `position` and `settled` say at the end of a batch which of them
    were, and `dropped` counts those.

    `poll` is for when a record waits: labels without a sample are not collected ahead of need.
    """

    def __init__(
        self,
        open_source: Callable[[], Source],
        wait: float,
        most: int,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        *,
        own_partitions: bool = False,
    ) -> None:
        self._open_source, self._wait, self._most = open_source, wait, most
        self._clock, self._now, self._own_partitions = clock, now, own_partitions
        self._source: Source | None = None
        self._released = False
        """Whether the source has read farther than `_next`, as labels were released."""
        self._given_up: dict[tuple[int, int], None] = {}
        """Partition and offset of records that waited in vain, the oldest first."""
        self._settled: dict[int, SettledOffsets] = {}
        """By partition, from its `position` on."""
        self._dropped: Counter[str] = Counter()
        self._begin({})

    def _begin(self, offsets: Mapping[int, int]) -> None:
        """Read from ``offsets`` on: no label waits."""
        self._next = dict(offsets)
        self._by_key: dict[bytes, _Waiting] = {}
        self._keys: dict[int, dict[int, bytes]] = {partition: {} for partition in self._next}
        """By partition and offset, in ascending order."""
        self._bytes = 0
        self._reached = dict.fromkeys(self._next, -1)
        """The newest timestamp of a label by partition, in milliseconds."""
        self._unread: dict[int, int] = {}
        """The ends, when the topic was opened, of the partitions that are not read up to there."""
        self._caught_up = 0.0
        """When all of them were read, on the monotonic clock."""

    def read_from(self, offsets: Mapping[int, int], settled: Mapping[int, str] = NONE_SETTLED) -> None:
        """Forget every label that waits, and read from ``offsets`` on; without any, from the start.

        Those that are ``settled`` are skipped. Raises the errors of the source.
        """
        if self._source is None:
            self._source = self._open_source()
        begins = self._source.seek(offsets)
        self._settled = {
            p: SettledOffsets(begin, settled.get(p, "") if begin == offsets.get(p) else "")
            for p, begin in begins.items()
        }
        self._dropped.clear()
        self._begin(begins)
        self._unread, self._released = dict(self._source.ends()), False

    @property
    def partitions(self) -> Sequence[int]:
        """The partitions of the topic of labels that are read, in ascending order."""
        return () if self._source is None else self._source.partitions

    def poll(self) -> None:
        """Read the labels that have come, without waiting for more. Raises the errors of the source."""
        if self._source is None or self.full:
            return
        if self._released:
            self._source.seek(self._next)
            self._released = False
        for record in self._source.poll(0.0, AT_ONCE, ()):
            self._next[record.partition] = record.offset + 1
            self._reached[record.partition] = max(
                self._reached.get(record.partition, -1), self._credible(record)
            )
            self._keep(record)
        if self._unread:
            reached = self._source.reached()
            self._unread = {p: end for p, end in self._unread.items() if reached[p] < end}
            self._caught_up = self._clock()

    def awaits(self, record: Record, received: float) -> bool:
        """Return whether the label of a record may still come; it was ``received`` at a monotonic time."""
        place = record.partition, record.offset
        if record.key is None or record.key in self._by_key or place in self._given_up:
            return False
        last = self._credible(record) + self._wait * 1000
        if min(self._reached.values(), default=-1) > last:
            over = True  # every partition has labels that come too late for this record
        elif self._unread and not self.full:
            over = False
        else:
            over = self._clock() - max(received, self._caught_up) >= self._wait
        if over:
            self._give_up(place)
        return not over

    def take(self, record: Record) -> bytes | None:
        """Return the label that has come for a record, which then is used up; None if there is none.

        Raises InvalidSetting if labels have to be in the partitions of their samples, and it is not.
        """
        timestamp = self._credible(record)
        self._drop_before(timestamp - self._wait * 1000)
        if record.key is None or (record.partition, record.offset) in self._given_up:
            return None
        waiting = self._by_key.get(record.key)
        if waiting is None or waiting.timestamp > timestamp + self._wait * 1000:
            return None  # a label that comes so late is one of a later record with the same key
        if self._own_partitions and waiting.partition != record.partition:
            raise InvalidSetting(
                f"labels.topic: the record in partition {record.partition} with offset {record.offset} has "
                f"its label in partition {waiting.partition}: {WHY_OWN_PARTITIONS}"
            )
        self._settle(record.key, waiting)
        return waiting.label

    @property
    def position(self) -> Mapping[int, int]:
        """The offsets from which a restart has to read labels: none before them is needed any more."""
        return {p: next(iter(self._keys.get(p, ())), offset) for p, offset in self._next.items()}

    @property
    def settled(self) -> Mapping[int, str]:
        """Which labels from `position` on are joined or dropped, by partition: `SettledOffsets.text`."""
        texts = {p: self._settled[p].text(first) for p, first in self.position.items()}
        return {p: text for p, text in texts.items() if text}

    @property
    def held(self) -> float:
        """Seconds since the oldest label that waits for its sample was read; 0 if none waits."""
        oldest = [self._by_key[next(iter(keys.values()))].read_at for keys in self._keys.values() if keys]
        return self._clock() - min(oldest) if oldest else 0.0

    @property
    def full(self) -> bool:
        """Whether so many labels wait for their samples that no more are read."""
        return len(self._by_key) >= self._most or self._bytes >= MOST_BYTES

    @property
    def grown(self) -> bool:
        """Whether the topic has partitions that it had not when it was opened."""
        return self._source is not None and self._source.grown()

    def dropped(self) -> Mapping[str, int]:
        """Return how many labels were dropped, by reason, since the last call or `read_from`."""
        dropped = dict(self._dropped)
        self._dropped.clear()
        return dropped

    def release(self) -> None:
        """Forget every label that waits; it is read again when a record waits for one."""
        if self._by_key:
            read = self._next
            self._begin(self.position)
            self._unread, self._released = read, True

    def close(self) -> None:
        """Close the connection and forget every label that waits."""
        if self._source is not None:
            self._source.close()
            self._source = None
        self._begin({})

    def _credible(self, record: Record) -> int:
        """Return a record's timestamp: one in the future would make all others come too late."""
        return min(record.timestamp, int(self._now() * 1000))

    def _give_up(self, place: tuple[int, int]) -> None:
        self._given_up[place] = None
        if len(self._given_up) > self._most:
            del self._given_up[next(iter(self._given_up))]

    def _keep(self, record: Record) -> None:
        settled = self._settled[record.partition]
        if record.offset in settled:
            return
        reason = ""
        if record.key is None:
            reason = "no_key"
        elif record.value is None:
            reason = "no_value"
        elif len(record.value) > LONGEST_LABEL or len(record.key) > LONGEST_LABEL:
            reason = "too_long"
        else:
            if (before := self._by_key.get(record.key)) is not None:
                self._settle(record.key, before)
                self._dropped["replaced"] += 1
            self._by_key[record.key] = _Waiting(
                record.value, record.partition, record.offset, self._credible(record), self._clock()
            )
            self._keys.setdefault(record.partition, {})[record.offset] = record.key
            self._bytes += len(record.key) + len(record.value)
            return
        settled.add(record.offset)
        self._dropped[reason] += 1

    def _drop_before(self, timestamp: float) -> None:
        """Drop the labels of earlier times, whose samples have not come and are too late now."""
        for keys in self._keys.values():
            while keys:
                key = next(iter(keys.values()))
                waiting = self._by_key[key]
                if waiting.timestamp >= timestamp:
                    break
                self._settle(key, waiting)
                self._dropped["unmatched"] += 1

    def _settle(self, key: bytes, waiting: _Waiting) -> None:
        """Forget a label that is joined or dropped, also after a restart."""
        self._settled[waiting.partition].add(waiting.offset)
        del self._by_key[key], self._keys[waiting.partition][waiting.offset]
        self._bytes -= len(key) + len(waiting.label)
