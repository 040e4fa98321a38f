"""The batcher, case by case: ends, gaps, dead letters, segments, times and positions."""

from dataclasses import replace

import pytest

from lethe.errors import DeadLetterUnavailable, PositionLost
from lethe.ingest.read_ahead import READ_AHEAD_RECORDS
from lethe.stream.source import Position
from tests.support.batches import Rig, bad, good, log
from tests.support.sources import Letters


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


def test_each_partition_is_read_up_to_its_own_end() -> None:
    rig = Rig({0: log(0, 20), 1: log(1, 20), 2: log(2, 20)}, size=4, until={0: 5, 1: 2, 2: 0})
    batches = rig.batches()
    assert [made.samples for made in batches] == [[(0, 0), (1, 0), (0, 1), (1, 1)], [(0, 2), (0, 3), (0, 4)]]
    assert [made.filled.left for made in batches] == [3, 0]
    assert batches[-1].filled.position.offsets == {0: 5, 1: 2, 2: 0}


def test_a_gap_over_the_end_of_a_partition_is_no_end_of_the_others() -> None:
    logs = {0: [good(0, 0), good(0, 9)], 1: log(1, 20)}
    batches = Rig(logs, size=4, until={0: 5, 1: 6}).batches()
    assert [number for made in batches for number in made.samples if number[0] == 1] == [
        (1, offset) for offset in range(6)
    ]
    assert [made.filled.last for made in batches] == [False, True]


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


def test_a_gap_is_counted_when_it_is_passed() -> None:
    first, second = Rig({0: [*log(0, 4), *log(0, 20)[10:14]]}).batches()
    assert (first.filled.lost, second.filled.lost) == (0, 6)


def test_a_record_served_twice_is_an_error_that_names_it() -> None:
    rig = Rig({3: [good(3, 0), good(3, 1), good(3, 1)]})
    with pytest.raises(PositionLost, match="partition 3: offset 1 was served twice"):
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


def test_an_incomplete_batch_waits_without_limit_by_default() -> None:
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


def test_a_record_that_waits_for_its_turn_counts_as_received_when_it_was_polled() -> None:
    now = [3.0]
    rig = Rig({0: log(0, 9), 1: log(1, 9)}, [[(1, 5)], [(0, 1)], [(0, 1)]], clock=lambda: now[0])
    assert rig.batcher.waited == 0
    assert rig.fill() is None  # it is the turn of partition 0
    now[0] = 5.0
    assert rig.batcher.waited == 2
    assert rig.fill() is None
    assert rig.batcher.waited == 2
    now[0] = 6.0
    made = rig.fill()
    assert made is not None
    assert made.filled.arrived == 3.0
    assert rig.batcher.waited == 3  # the rest of partition 1


@pytest.mark.parametrize(
    ("ends", "turn", "left", "fills"),
    [
        ({0: 2, 1: 2}, 0, None, True),
        ({0: 9, 1: 1}, 0, None, False),
        ({0: 2, 1: 1}, 0, 3, True),
        ({0: 1, 1: 2}, 0, 3, False),
        ({0: 1, 1: 2}, 1, 3, True),
        ({0: 0, 1: 1}, 1, 1, True),
    ],
)
def test_enough_records_for_a_batch_are_enough_in_each_partition(
    ends: dict[int, int], turn: int, left: int | None, fills: bool
) -> None:
    rig = Rig({0: log(0, 9), 1: log(1, 9)}, position=Position({}, turn), stop_after=left)
    assert rig.batcher.fills(ends) is fills


def test_times_are_those_of_the_first_sample() -> None:
    now = [7.0]
    rig = Rig({0: [bad(0, 0), *log(0, 5)[1:]]}, [[(0, 3)]], clock=lambda: now[0])
    assert rig.fill() is None
    now[0] = 9.0
    made = rig.fill()
    assert made is not None
    assert (made.filled.arrived, made.filled.produced) == (7.0, 1.001)


def test_a_partition_far_ahead_of_the_others_is_paused() -> None:
    rig = Rig({0: log(0, 3 * READ_AHEAD_RECORDS), 1: []})
    for _ in range(5):
        assert rig.fill() is None
    assert rig.source.left_alone[0] == set()
    assert rig.source.left_alone[-1] == {0}
    rig.source.logs[1] = log(1, 3 * READ_AHEAD_RECORDS)
    assert len(rig.batches()) == 6 * READ_AHEAD_RECORDS // 4


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


@pytest.mark.parametrize(("decoding_seconds", "dead"), [(0.0, {"too_costly": 4}), (60.0, {})])
def test_a_record_that_takes_long_to_decode_is_dead_lettered(
    decoding_seconds: float, dead: dict[str, int]
) -> None:
    rig = Rig({0: log(0, 4)}, decoding_seconds=decoding_seconds, stop_after=4)
    (made,) = rig.batches()
    assert made.filled.dead == dead
    assert made.filled.samples == 4 - sum(dead.values())
