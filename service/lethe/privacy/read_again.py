"""Reads the records that a state has learned from the topic again, before they are purged."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final

from lethe.errors import PositionLost
from lethe.privacy.audit.learned_offsets import LearnedOffsets
from lethe.privacy.audit.receipt import Span
from lethe.stream.consumer import KafkaSource
from lethe.stream.settings import StreamSettings
from lethe.stream.source import Record

__all__ = ["OnRead", "read_again"]

OnRead = Callable[[int, int], None]
"""Called with the number of records read so far, and that of all."""
AT_ONCE: Final = 512
WAIT_SECONDS: Final = 1.0


def read_again(
    learned: LearnedOffsets, stream: StreamSettings, topic_id: str | None, on_read: OnRead
) -> Iterator[Record]:
    """Yield every record at the offsets that were learned, valid or malformed, in order within a partition.

    ``stream`` says where the topic is, ``topic_id`` is the broker's id of it when it was learned. Raises
    PositionLost, naming partition and offsets, if some of the records are gone, BrokerUnavailable.
    """
    if learned.recreated:
        raise PositionLost(f"topic {learned.topic} was deleted and created again while it was learned")
    wanted = {partition: span for partition, span in learned.spans.items() if span.first < span.next}
    with closing(KafkaSource(stream)) as source:
        ids = {topic_id, source.topic_id}
        if stream.topic == learned.topic and None not in ids and len(ids) > 1:
            raise PositionLost(f"topic {stream.topic} was deleted and created again since it was learned")
        _check_there(wanted, source, stream.topic)
        source.seek({partition: span.first for partition, span in wanted.items()})
        count = 0
        for record in _read(source, wanted):
            yield record
            count += 1
            on_read(count, learned.received)
    if count != learned.received:
        raise PositionLost(
            f"topic {stream.topic}: the broker serves {count} records at the learned offsets, the ledger "
            f"counts {learned.received}; some were deleted, or stream.isolation was another"
        )


def _check_there(wanted: dict[int, Span], source: KafkaSource, topic: str) -> None:
    """Raise PositionLost unless the broker has every wanted offset."""
    starts, ends = source.starts(), source.ends()
    if missing := sorted(wanted.keys() - starts.keys()):
        raise PositionLost(f"topic {topic} has no partition {missing[0]}, of which records were learned")
    for partition, span in wanted.items():
        if starts[partition] > span.first:
            until = min(span.next, starts[partition]) - 1
            raise PositionLost(
                f"topic {topic}, partition {partition}: offsets {span.first} to {until} were learned and are "
                "no longer in the broker: they were purged, or their retention is over"
            )
        if ends[partition] < span.next:
            raise PositionLost(
                f"topic {topic}, partition {partition}: offsets up to {span.next - 1} were learned, and it "
                f"ends before {ends[partition]}: it is not the same topic"
            )


def _read(source: KafkaSource, wanted: dict[int, Span]) -> Iterator[Record]:
    left = dict(wanted)
    while left:
        records = source.poll(WAIT_SECONDS, AT_ONCE, set(source.partitions) - left.keys())
        for record in records:
            if record.partition in left and record.offset < left[record.partition].next:
                yield record
        if not records:
            source.ends()  # raises BrokerUnavailable if that is why none came
        reached = source.reached()
        left = {partition: span for partition, span in left.items() if reached[partition] < span.next}
