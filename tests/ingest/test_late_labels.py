"""Labels that come later: joined by key within a time, bounded in number, read again after a restart."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from lethe.errors import InvalidSetting
from lethe.ingest.late_labels import LONGEST_LABEL, LateLabels
from lethe.observability.metrics import LABELS_DROPPED
from tests.support.batches import Rig, good
from tests.support.sources import MemoryRecord, MemorySource


def sample(offset: int, key: bytes | None, at: int = 0) -> MemoryRecord:
    record = good(0, offset)
    headers = [header for header in record.headers if header[0] != "label"]
    return replace(record, headers=headers, key=key, timestamp=at)


def label(
    offset: int, key: bytes | None, value: bytes | None, at: int = 0, partition: int = 0
) -> MemoryRecord:
    return MemoryRecord(partition, offset, value, [], at, key)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def late(
    *labels: MemoryRecord,
    wait: float = 10.0,
    most: int = 100,
    since: int = 0,
    clock: Callable[[], float] = lambda: 0.0,
    others: Sequence[MemoryRecord] | None = None,
) -> LateLabels:
    """Labels in one partition, and ``others`` in a second one."""
    logs = {0: labels} if others is None else {0: labels, 1: others}
    found = LateLabels(lambda: MemorySource(logs), wait, most, clock)
    found.read_from({0: since})
    return found


def test_a_record_gets_the_label_under_its_key_once() -> None:
    labels = late(label(0, b"b", b"1"), label(1, b"a", b"0"))
    assert labels.take(sample(0, b"a")) is None, "nothing was read yet"
    labels.poll()
    assert labels.take(sample(0, b"a")) == b"0"
    assert labels.take(sample(1, b"a")) is None
    assert labels.take(sample(2, b"b")) == b"1"
    assert labels.take(sample(3, None)) is None


def test_a_record_waits_for_so_long_after_it_was_received() -> None:
    clock = Clock()
    labels = late(clock=clock)
    labels.poll()
    clock.now = 13.9
    assert labels.awaits(sample(0, b"a"), 4.0)
    assert not labels.awaits(sample(1, None), 4.0)
    clock.now = 14.0
    assert not labels.awaits(sample(0, b"a"), 4.0)


def test_it_waits_for_no_longer_than_until_later_labels_have_come_in_every_partition() -> None:
    labels = late(label(0, b"c", b"1", at=25_000), others=[label(0, b"d", b"1", at=5_000, partition=1)])
    record = sample(0, b"a", at=8_000)
    labels.poll()
    assert labels.awaits(record, 0.0), "its own may still come in the other partition"
    labels = late(label(0, b"c", b"1", at=25_000), others=[label(0, b"d", b"1", at=18_001, partition=1)])
    assert labels.awaits(record, 0.0), "nothing was read yet"
    labels.poll()
    assert not labels.awaits(record, 0.0)
    assert labels.awaits(sample(1, b"e", at=9_000), 0.0)
    assert not labels.awaits(sample(1, b"c", at=20_000), 0.0), "it is there"


def test_labels_that_were_there_are_read_before_time_counts() -> None:
    clock = Clock()
    labels = late(label(0, b"a", b"1"), clock=clock)
    clock.now = 1000.0
    assert labels.awaits(sample(0, b"a"), 0.0), "however long it takes to read them"
    labels.poll()
    assert labels.take(sample(0, b"a")) == b"1"
    assert labels.awaits(sample(1, b"b"), 0.0)
    clock.now = 1010.0
    assert not labels.awaits(sample(1, b"b"), 0.0)


def test_a_label_that_comes_later_than_the_time_is_none() -> None:
    labels = late(label(0, b"a", b"1", at=10_001))
    labels.poll()
    assert labels.take(sample(0, b"a", at=0)) is None
    assert labels.take(sample(9, b"a", at=1_000)) == b"1", "it is one of a later record"


def test_a_record_that_waited_in_vain_stays_without_a_label() -> None:
    clock = Clock()
    source = MemorySource({0: []})
    labels = LateLabels(lambda: source, 10.0, 100, clock)
    labels.read_from({})
    labels.poll()
    clock.now = 10.0
    assert not labels.awaits(sample(0, b"a"), 0.0)
    source.logs[0].append(label(0, b"a", b"1"))
    labels.read_from({})
    labels.poll()
    assert not labels.awaits(sample(0, b"a"), clock.now)
    assert labels.take(sample(0, b"a")) is None, "its dead letter may be sent"
    assert labels.take(sample(5, b"a")) == b"1"


def test_a_label_in_another_partition_is_refused_where_others_read_other_partitions() -> None:
    logs = {0: [label(0, b"a", b"1")], 1: [label(0, b"b", b"2", partition=1)]}
    labels = LateLabels(lambda: MemorySource(logs), 10.0, 100, own_partitions=True)
    labels.read_from({})
    labels.poll()
    assert labels.partitions == [0, 1]
    assert labels.take(sample(0, b"a")) == b"1"
    with pytest.raises(
        InvalidSetting, match=r"partition 0 with offset 7 has its label in partition 1: where"
    ):
        labels.take(sample(7, b"b"))


def test_labels_without_a_sample_are_dropped_with_a_reason() -> None:
    labels = late(
        label(0, None, b"1"),
        label(1, b"a", None),
        label(2, b"b", b"x" * (LONGEST_LABEL + 1)),
        label(3, b"c", b"1", at=1_000),
        label(4, b"d", b"1", at=2_000),
        label(5, b"d", b"2", at=3_000),
    )
    labels.poll()
    assert labels.take(sample(0, b"d", at=12_500)) == b"2"
    dropped = labels.dropped()
    assert dropped == {"no_key": 1, "no_value": 1, "too_long": 1, "replaced": 1, "unmatched": 1}
    assert dropped.keys() == set(LABELS_DROPPED)
    assert labels.dropped() == {}


def test_a_timestamp_in_the_future_makes_no_other_label_late() -> None:
    year_3000 = 32_503_680_000_000
    labels = late(label(0, b"a", b"1", at=year_3000))
    labels.poll()
    recent = sample(0, b"b", at=1_000_000_000_000_000)
    assert labels.awaits(recent, 0.0)
    assert labels.take(sample(1, b"a", at=year_3000)) == b"1"


def test_a_restart_reads_the_labels_that_wait_and_none_before_them() -> None:
    labels = late(*(label(offset, b"%d" % offset, b"1") for offset in range(6)))
    assert labels.position == {0: 0}
    labels.poll()
    assert labels.position == {0: 0}
    for offset in (0, 1, 3):
        labels.take(sample(offset, b"%d" % offset))
    assert labels.position == {0: 2}
    for offset in (2, 4, 5):
        labels.take(sample(offset, b"%d" % offset))
    assert labels.position == {0: 6}


@pytest.mark.parametrize("taken", range(9))
def test_whatever_the_order_a_restart_finds_every_label_that_is_needed(taken: int) -> None:
    order = random.Random(taken).sample(range(8), 8)
    labels = late(*(label(offset, b"%d" % offset, b"%d" % offset) for offset in range(8)))
    labels.poll()
    for key in order[:taken]:
        assert labels.take(sample(key, b"%d" % key)) == b"%d" % key
    again = late(*(label(n, b"%d" % n, b"%d" % n) for n in range(8)), since=labels.position[0])
    again.poll()
    for key in order[taken:]:
        assert again.take(sample(key, b"%d" % key)) == b"%d" % key


def test_no_more_labels_are_read_than_may_wait() -> None:
    clock = Clock()
    labels = late(*(label(offset, b"%d" % offset, b"1") for offset in range(3000)), most=1, clock=clock)
    labels.poll()
    assert labels.full
    before = labels.position
    labels.poll()
    assert labels.position == before
    record = sample(0, b"2500")
    assert labels.awaits(record, 0.0)
    clock.now = 10.0
    assert not labels.awaits(record, 0.0), "its label is there, but behind the bound"


def test_labels_that_are_released_are_read_again_when_they_are_needed() -> None:
    clock = Clock()
    labels = late(*(label(offset, b"%d" % offset, b"%d" % offset) for offset in range(3)), clock=clock)
    assert labels.held == 0.0
    labels.poll()
    labels.take(sample(0, b"0"))
    clock.now = 2.0
    assert labels.held == 2.0
    labels.release()
    assert (labels.held, labels.position) == (0.0, {0: 1})
    assert labels.awaits(sample(1, b"1"), 0.0)
    labels.poll()
    assert labels.take(sample(1, b"1")) == b"1"
    labels.close()
    assert labels.held == 0.0


def test_all_records_wait_for_the_first_and_keep_their_order() -> None:
    records = [sample(0, b"a"), good(0, 1), sample(2, b"b"), good(0, 3)]
    labels = late(label(0, b"b", b"7"), label(1, b"a", b"4"))
    rig = Rig({0: records}, size=4, late=labels)
    assert not rig.batcher.awaits_label
    assert rig.batches() == []
    assert rig.batcher.awaits_label
    labels.poll()
    assert not rig.batcher.awaits_label
    (made,) = rig.batches()
    assert made.samples == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert made.labels == [4, 1, 7, 3]
    assert (made.filled.joined, dict(made.filled.dropped_labels)) == (2, {})
    assert made.filled.position.labels == {0: 2}


@pytest.mark.parametrize("unlabelled", [False, True])
def test_a_record_whose_label_does_not_come_is_unlabelled(unlabelled: bool) -> None:
    clock = Clock()
    records = [sample(0, b"a"), good(0, 1), good(0, 2)]
    labels = late(wait=5.0, clock=clock)
    labels.poll()
    rig = Rig({0: records}, size=2, late=labels, clock=clock, unlabelled=unlabelled)
    assert rig.batches() == []
    clock.now = 5.0
    (made,) = rig.batches()
    assert (made.filled.unlabelled, made.filled.joined) == (unlabelled, 0)
    assert dict(made.filled.dead) == ({} if unlabelled else {"missing_header": 1})


def test_a_late_label_that_is_no_class_makes_its_record_malformed() -> None:
    labels = late(label(0, b"a", b"cat"), label(1, b"b", b"10"))
    labels.poll()
    records = [sample(0, b"a"), sample(1, b"b"), good(0, 2)]
    (made,) = Rig({0: records}, size=1, late=labels).batches()
    assert made.filled.dead == {"bad_header": 1, "label_out_of_range": 1}
    assert made.filled.joined == 0


def test_a_bound_that_keeps_a_label_from_being_read_is_reported() -> None:
    labels = late(label(0, b"a", b"1"), label(1, b"b", b"2"), most=1)
    rig = Rig({0: [sample(0, b"c"), good(0, 1)]}, size=2, late=labels)
    rig.fill()
    assert rig.batcher.stalled == ""
    labels.poll()
    assert "labels.pending" in rig.batcher.stalled


def test_late_labels_may_be_names() -> None:
    labels = late(label(0, b"a", b"dog"), label(1, b"b", b"cat"))
    labels.poll()
    (made,) = Rig({0: [sample(0, b"b"), sample(1, b"a")]}, size=2, late=labels, names=()).batches()
    assert made.filled.position.classes == ("cat", "dog")
