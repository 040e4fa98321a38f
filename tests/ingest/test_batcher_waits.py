"""What a batcher does while a batch stays incomplete: idle partitions, malformed records, markers, memory."""

from dataclasses import replace

from lethe.ingest.batcher import REPORT_RECORDS, REPORT_SECONDS
from lethe.ingest.read_ahead import READ_AHEAD_BYTES
from lethe.stream.source import Position
from tests.support.batches import Rig, bad, good, log
from tests.support.sources import MemoryRecord


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_silent_partition_is_waited_for_once_and_not_for_each_record() -> None:
    clock = Clock()
    rig = Rig({0: log(0, 30), 1: log(1, 30), 2: []}, size=10, linger=1.0, clock=clock)
    assert rig.fill() is None
    clock.now = 1.0
    batches = rig.batches()
    assert [len(made.samples) for made in batches] == [10] * 6, "all at once, at the same instant"
    assert batches[0].samples[:5] == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2)], (
        "in turns, as if it were not there"
    )


def test_a_partition_is_idle_until_its_next_record() -> None:
    clock = Clock()
    rig = Rig(
        {0: log(0, 30), 1: []}, [[(0, 5)], [(0, 1)], [(1, 1)], [(0, 1)]], size=3, linger=1.0, clock=clock
    )
    assert rig.fill() is None
    clock.now = 1.0
    first, second = rig.fill(), rig.fill()
    assert first is not None
    assert second is not None
    assert [made.samples for made in (first, second)] == [[(0, 0), (0, 1), (0, 2)], [(0, 3), (0, 4), (0, 5)]]
    rig.source.logs[1] = log(1, 1)
    assert rig.fill() is None, "its record came: it is in turns again, and is waited for after that"
    assert rig.fill() is None
    clock.now = 2.0
    third = rig.fill()
    assert third is not None
    assert third.samples[:2] == [(1, 0), (0, 6)]


def test_malformed_records_alone_become_a_batch_without_a_sample() -> None:
    clock = Clock()
    rig = Rig({0: [bad(0, offset) for offset in range(7)]}, clock=clock)
    assert rig.fill() is None
    clock.now = REPORT_SECONDS
    made = rig.fill()
    assert made is not None
    assert (made.samples, made.filled.received, made.filled.dead) == ([], 7, {"null_value": 7})
    assert made.filled.position.offsets == {0: 7}
    assert rig.fill() is None


def test_many_malformed_records_make_a_batch_at_once() -> None:
    rig = Rig({0: [bad(0, offset) for offset in range(REPORT_RECORDS)]})
    made = rig.fill()
    assert made is not None
    assert made.filled.received == REPORT_RECORDS


def test_malformed_records_are_reported_before_their_batch_is_complete() -> None:
    clock = Clock()
    rig = Rig({0: [good(0, 0), bad(0, 1), bad(0, 2)]}, clock=clock)
    assert rig.fill() is None
    assert rig.batcher.flush_dead_letters() is None
    clock.now = REPORT_SECONDS
    assert rig.fill() is None, "the sample is not learned: nothing may pass it"
    unsettled = rig.batcher.flush_dead_letters()
    assert unsettled is not None
    assert unsettled.dead == {"null_value": 2}
    assert rig.letters.acknowledged == [(0, 1, "null_value"), (0, 2, "null_value")]
    assert rig.batcher.flush_dead_letters() is None, "once"


def test_offsets_without_a_record_are_neither_lost_nor_waited_for() -> None:
    logs = {0: [good(0, 0), good(0, 1), good(0, 4), good(0, 5)]}
    rig = Rig(logs, size=2, stop_after=4)
    rig.source.markers = {0: {2, 3, 6}}
    first, second = rig.batches()
    assert [(made.filled.lost, made.filled.skipped) for made in (first, second)] == [(0, 0), (0, 2)]
    assert second.filled.last, "nor counted towards the end of the run"
    assert second.filled.position.offsets == second.filled.ends == {0: 6}, "no lag is left"


def test_a_position_may_be_at_a_marker() -> None:
    rig = Rig({0: [good(0, 0), good(0, 2), good(0, 3)]}, size=2, position=Position({0: 1}))
    rig.source.markers = {0: {1}}
    (made,) = rig.batches()
    assert (made.samples, made.filled.lost, made.filled.skipped) == ([(0, 2), (0, 3)], 0, 1)


def test_large_records_of_one_partition_do_not_pile_up_behind_another() -> None:
    def large(offset: int) -> MemoryRecord:
        return replace(bad(0, offset), value=bytes(READ_AHEAD_BYTES // 4))

    rig = Rig({0: [large(offset) for offset in range(40)], 1: []}, [[(0, 3)], [(0, 3)], [(0, 3)], [(0, 3)]])
    for _ in range(4):
        assert rig.fill() is None
    assert rig.source.left_alone == [set(), set(), {0}, {0}]


def test_known_malformed_records_do_not_make_a_batch() -> None:
    rig = Rig({0: [], 1: []}, size=4)
    assert rig.batcher.fills({0: 2, 1: 2})
    assert not rig.batcher.fills({0: 2, 1: 2}, malformed=1)
    assert rig.batcher.fills({0: 3, 1: 2}, malformed=1)
