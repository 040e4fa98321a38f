"""The batcher: the same records make the same batches, whatever the network did."""

import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.batching import AHEAD, Batcher, Filled
from service.errors import BrokerUnavailable, DeadLetterUnavailable, PositionLost
from service.slots import BatchSettings, Slots
from service.stream.source import Position
from service.wire import Layout
from tests.sources import Letters, MemoryRecord, MemorySource, Step

LAYOUT = Layout(channels=1, height=1, width=2)
CONTEXT = multiprocessing.get_context("spawn")

Origin = tuple[int, int]
"""Partition and offset, which is also what a good record's two pixels say."""


def good(partition: int, offset: int, segment: str | None = None) -> MemoryRecord:
    headers = [
        ("content-type", b"application/octet-stream"),
        ("label", str(offset % 10).encode()),
        ("dtype", b"uint8"),
        ("shape", b"1,1,2"),
    ]
    if segment is not None:
        headers.append(("segment", segment.encode()))
    return MemoryRecord(partition, offset, bytes([partition, offset % 256]), headers, 1000 + offset)


def bad(partition: int, offset: int) -> MemoryRecord:
    return MemoryRecord(partition, offset, None, [])


def log(partition: int, count: int) -> list[MemoryRecord]:
    return [good(partition, offset) for offset in range(count)]


@dataclass(frozen=True)
class Made:
    """One batch: whose samples it holds, and all that was said of it."""

    samples: list[Origin]
    labels: list[int]
    filled: Filled


class Rig:
    """A batcher over a scripted topic, its slots and its dead letters."""

    def __init__(
        self,
        logs: dict[int, list[MemoryRecord]],
        script: Sequence[Step] = (),
        *,
        size: int = 4,
        linger: float = 0.0,
        position: Position | None = None,
        stop_after: int | None = None,
        letters: Letters | None = None,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.source = MemorySource(logs, script)
        self.letters = letters or Letters()
        batch = BatchSettings(size=size, slots=2, linger=linger)
        self.slots = Slots(LAYOUT, batch, CONTEXT)
        self.batcher = Batcher(
            self.source, self.letters, self.slots, LAYOUT, batch, position, stop_after, clock
        )
        self.failures: list[Exception] = []

    def fill(self) -> Made | None:
        """One call of fill; a broker that is away is noted and the call counts for nothing."""
        try:
            filled = self.batcher.fill(0, timeout=0)
        except BrokerUnavailable as error:
            self.failures.append(error)
            return None
        if filled is None:
            return None
        assert self.letters.acknowledged == self.letters.sent
        x_BCHW = self.slots.x_SBCHW[0, : filled.samples]
        made = Made(
            [(int(x[0, 0, 0]), int(x[0, 0, 1])) for x in x_BCHW],
            self.slots.y_SB[0, : filled.samples].tolist(),
            filled,
        )
        self.slots.discard(0)
        return made

    def batches(self) -> list[Made]:
        """Every batch that the topic gives until it is silent."""
        made: list[Made] = []
        silent = 0
        while silent < 3 and not self.batcher.ended:
            polls, failures = len(self.source.left_alone), len(self.failures)
            batch = self.fill()
            if batch is not None:
                made.append(batch)
            waiting = self.source.script or len(self.failures) > failures or batch is not None
            silent = 0 if waiting or len(self.source.left_alone) == polls else silent + 1
        return made


def rotation(logs: dict[int, list[MemoryRecord]]) -> list[MemoryRecord]:
    """The merged stream by its definition: record i comes from partition i mod n."""
    merged: list[MemoryRecord] = []
    shortest = min(len(records) for records in logs.values())
    for row in zip(*(logs[p][: shortest + 1] for p in sorted(logs)), strict=False):
        merged += row
    for p in sorted(logs):  # the row in which the first partition has run dry
        if len(logs[p]) == shortest:
            return merged
        merged.append(logs[p][shortest])
    raise AssertionError("one partition is the shortest")


def same(one: list[Made], other: list[Made]) -> bool:
    """Whether the batches are the same but for the times of their arrival."""

    def timeless(batches: list[Made]) -> list[Made]:
        return [replace(made, filled=replace(made.filled, arrived=0.0)) for made in batches]

    return timeless(one) == timeless(other)


PARTITIONS = st.integers(1, 4)


@st.composite
def topics(draw: st.DrawFn) -> dict[int, list[MemoryRecord]]:
    """1 to 4 partitions of good and bad records, some offsets missing."""
    logs: dict[int, list[MemoryRecord]] = {}
    for p in range(draw(PARTITIONS)):
        kinds = draw(st.lists(st.sampled_from(["good", "good", "good", "a", "b", "bad", "gap"]), max_size=25))
        logs[p] = [
            bad(p, offset) if kind == "bad" else good(p, offset, None if kind == "good" else kind)
            for offset, kind in enumerate(kinds)
            if kind != "gap"
        ]
    return logs


STEPS = st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 7)), max_size=5), max_size=30)
TROUBLED = st.lists(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 7)), max_size=5)
    | st.builds(BrokerUnavailable, st.just("gone")),
    max_size=30,
)
TROUBLES = st.lists(st.none() | st.builds(BrokerUnavailable, st.just("gone")), max_size=12)


@given(logs=topics(), script=STEPS, size=st.integers(1, 7))
def test_the_same_records_make_the_same_batches_whatever_the_chunks(
    logs: dict[int, list[MemoryRecord]], script: list[Step], size: int
) -> None:
    batches = Rig(logs, script, size=size).batches()
    assert same(batches, Rig(logs, size=size).batches())
    expected = [(r.partition, r.offset) for r in rotation(logs) if r.value is not None]
    whole = len(expected) // size * size
    assert [origin for made in batches for origin in made.samples] == expected[:whole]
    assert all(len(made.samples) == made.filled.samples == size for made in batches)
    assert all(made.labels == [offset % 10 for _, offset in made.samples] for made in batches)


@given(logs=topics(), script=STEPS, more=STEPS, size=st.integers(1, 5), data=st.data())
def test_a_run_resumed_at_any_batch_goes_on_exactly_where_it_was(
    logs: dict[int, list[MemoryRecord]], script: list[Step], more: list[Step], size: int, data: st.DataObject
) -> None:
    whole = Rig(logs, script, size=size).batches()
    split = data.draw(st.integers(0, len(whole)))
    position = whole[split - 1].filled.position if split else None
    assert same(Rig(logs, more, size=size, position=position).batches(), whole[split:])


@given(logs=topics(), script=TROUBLED, on_send=TROUBLES, on_flush=TROUBLES, size=st.integers(1, 5))
def test_a_broker_that_comes_and_goes_loses_nothing_and_repeats_nothing(
    logs: dict[int, list[MemoryRecord]],
    script: list[Step],
    on_send: list[Exception | None],
    on_flush: list[Exception | None],
    size: int,
) -> None:
    calm = Rig(logs, size=size)
    troubled = Rig(logs, script, size=size, letters=Letters(on_send, on_flush))
    assert same(troubled.batches(), calm.batches())
    assert troubled.letters.sent == calm.letters.sent


@given(logs=topics(), script=STEPS, size=st.integers(1, 5))
def test_every_record_before_a_position_is_a_sample_a_dead_letter_or_lost(
    logs: dict[int, list[MemoryRecord]], script: list[Step], size: int
) -> None:
    rig = Rig(logs, script, size=size)
    batches = rig.batches()
    taken = sum(made.filled.samples + sum(made.filled.dead.values()) for made in batches)
    assert taken == sum(made.filled.received for made in batches)
    if batches:
        passed = sum(batches[-1].filled.position.offsets.values())
        assert passed == taken + sum(made.filled.lost for made in batches)
        reported = {(p, offset) for p, offset, _ in rig.letters.acknowledged}
        offsets = batches[-1].filled.position.offsets
        assert reported >= {
            (r.partition, r.offset)
            for records in logs.values()
            for r in records
            if not r.value and r.offset < offsets[r.partition]
        }


@given(logs=topics(), script=STEPS, size=st.integers(1, 5), stop_after=st.integers(1, 40))
def test_a_run_ends_after_so_many_records_good_bad_and_lost(
    logs: dict[int, list[MemoryRecord]], script: list[Step], size: int, stop_after: int
) -> None:
    batches = Rig(logs, script, size=size, stop_after=stop_after).batches()
    endless = Rig(logs, size=size).batches()
    counted = [made.filled.received + made.filled.lost for made in batches]
    assert [made.filled.last for made in batches[:-1]] == [False] * len(batches[:-1])
    if batches and batches[-1].filled.last:
        # a gap may reach beyond the number asked for, the batch before it may not
        assert sum(counted[:-1]) < stop_after <= sum(counted)
        assert same(batches[:-1], endless[: len(batches) - 1])
    else:
        assert same(batches, endless)


def test_the_last_batch_is_as_small_as_what_is_left() -> None:
    rig = Rig({0: log(0, 20)}, size=4, stop_after=10)
    batches = rig.batches()
    assert [len(made.samples) for made in batches] == [4, 4, 2]
    assert [made.filled.last for made in batches] == [False, False, True]
    assert rig.batcher.ended
    assert batches[-1].filled.position == Position({0: 10}, 0, "topic-in-memory")


def test_a_run_that_ends_with_a_full_batch_says_so_with_that_batch() -> None:
    batches = Rig({0: log(0, 20)}, size=4, stop_after=8).batches()
    assert [made.filled.last for made in batches] == [False, True]


def test_bad_and_lost_records_count_towards_the_end_of_the_run() -> None:
    # 0 good, 1 bad, 2 and 3 gone, 4 good, 5 beyond the end
    logs = {0: [good(0, 0), bad(0, 1), good(0, 4), good(0, 5)]}
    (last,) = Rig(logs, size=4, stop_after=5).batches()
    assert (last.samples, last.filled.last) == ([(0, 0), (0, 4)], True)
    assert (last.filled.received, last.filled.dead, last.filled.lost) == (3, {"null_value": 1}, 2)


def test_malformed_records_are_reported_with_their_origin_and_counted_by_reason() -> None:
    logs = {0: [bad(0, 0), good(0, 1), replace(good(0, 2), value=b"123"), good(0, 3)]}
    rig = Rig(logs, size=2)
    (made,) = rig.batches()
    assert made.samples == [(0, 1), (0, 3)]
    assert made.filled.dead == {"null_value": 1, "wrong_shape": 1}
    assert rig.letters.acknowledged == [(0, 0, "null_value"), (0, 2, "wrong_shape")]


def test_a_batch_is_not_handed_over_before_its_dead_letters_are_acknowledged() -> None:
    rig = Rig({0: [bad(0, 0), *log(0, 5)[1:]]}, letters=Letters(on_flush=[DeadLetterUnavailable("refused")]))
    with pytest.raises(DeadLetterUnavailable, match="refused"):
        rig.batcher.fill(0, timeout=0)
    assert rig.letters.acknowledged == []
    made = rig.fill()
    assert made is not None
    assert made.samples == [(0, 1), (0, 2), (0, 3), (0, 4)]
    assert rig.letters.acknowledged == [(0, 0, "null_value")]


def test_a_gap_at_the_start_is_lost_too() -> None:
    (made,) = Rig({0: log(0, 9)[5:]}).batches()
    assert (made.filled.lost, made.filled.received) == (5, 4)
    assert made.filled.position.offsets == {0: 9}


def test_a_gap_is_counted_where_it_is_passed() -> None:
    first, second = Rig({0: [*log(0, 4), *log(0, 20)[10:14]]}).batches()
    assert (first.filled.lost, second.filled.lost) == (0, 6)


def test_a_record_served_twice_is_an_error_that_names_it() -> None:
    rig = Rig({3: [good(3, 0), good(3, 1), good(3, 1)]})
    with pytest.raises(PositionLost, match="partition 3: offset 1 was served a second time"):
        rig.batcher.fill(0, timeout=0)


def test_a_record_before_the_position_is_an_error() -> None:
    rig = Rig({0: log(0, 9)}, position=Position({0: 4}))
    rig.source.seek({0: 2})
    with pytest.raises(PositionLost, match="partition 0: offset 2"):
        rig.batcher.fill(0, timeout=0)


def test_segments_are_runs_in_stream_order() -> None:
    names = ["a", "a", None, "b", "b", "b", "a", "a"]
    logs = {0: [good(0, offset, name) for offset, name in enumerate(names)]}
    first, second = Rig(logs, size=5).batches()[0], Rig(logs, size=8).batches()[0]
    assert first.filled.segments == (("a", 2), (None, 1), ("b", 2))
    assert second.filled.segments == (("a", 2), (None, 1), ("b", 3), ("a", 2))


def test_a_bad_record_does_not_split_a_segment() -> None:
    (made,) = Rig({0: [good(0, 0, "a"), bad(0, 1), good(0, 2, "a")]}, size=2).batches()
    assert made.filled.segments == (("a", 2),)


def test_an_incomplete_batch_waits_for_ever_by_default() -> None:
    now = [0.0]
    rig = Rig({0: log(0, 3)}, clock=lambda: now[0])
    assert rig.fill() is None
    now[0] = 1e9
    assert rig.fill() is None
    assert rig.slots.resident == 3


def test_an_incomplete_batch_is_learned_when_no_record_came_for_the_linger_time() -> None:
    now = [0.0]
    rig = Rig({0: log(0, 3)}, [[(0, 2)], [], [(0, 1)]], linger=5.0, clock=lambda: now[0])
    assert rig.fill() is None
    now[0] = 4.0
    assert rig.fill() is None
    assert rig.fill() is None  # the third record has just come
    now[0] = 8.9
    assert rig.fill() is None
    now[0] = 9.0
    made = rig.fill()
    assert made is not None
    assert (made.samples, made.filled.last) == ([(0, 0), (0, 1), (0, 2)], False)
    assert made.filled.position == Position({0: 3}, 0, "topic-in-memory")
    now[0] = 100.0
    assert rig.fill() is None  # there is nothing to learn


def test_dead_letters_alone_are_handed_over_after_the_linger_time() -> None:
    now = [0.0]
    rig = Rig({0: [bad(0, 0)]}, linger=5.0, clock=lambda: now[0])
    assert rig.fill() is None
    now[0] = 5.0
    made = rig.fill()
    assert made is not None
    assert (made.samples, made.filled.received, made.filled.position.offsets) == ([], 1, {0: 1})


def test_times_are_those_of_the_first_sample() -> None:
    now = [7.0]
    rig = Rig({0: [bad(0, 0), *log(0, 5)[1:]]}, [[(0, 3)]], clock=lambda: now[0])
    assert rig.fill() is None
    now[0] = 9.0
    made = rig.fill()
    assert made is not None
    assert (made.filled.arrived, made.filled.produced) == (7.0, 1.001)


def test_a_partition_far_ahead_of_the_others_is_left_alone() -> None:
    rig = Rig({0: log(0, 3 * AHEAD), 1: []})
    for _ in range(5):
        assert rig.fill() is None
    assert rig.source.left_alone[0] == set()
    assert rig.source.left_alone[-1] == {0}
    rig.source.logs[1] = log(1, 3 * AHEAD)
    assert len(rig.batches()) == 6 * AHEAD // 4


def test_the_ends_of_the_topic_come_with_the_batch() -> None:
    (made, *_) = Rig({0: log(0, 9), 2: log(2, 5)}).batches()
    assert made.filled.ends == {0: 9, 2: 5}
    assert made.filled.position == Position({0: 2, 2: 2}, 0, "topic-in-memory")


def test_a_position_past_the_end_is_refused_at_once() -> None:
    with pytest.raises(PositionLost):
        Rig({0: log(0, 3)}, position=Position({0: 4}))


def test_a_position_from_when_there_were_more_partitions_can_be_resumed() -> None:
    batches = Rig({0: log(0, 9)}, position=Position({0: 2, 1: 2, 2: 1}, 2)).batches()
    assert batches[0].samples == [(0, 2), (0, 3), (0, 4), (0, 5)]
