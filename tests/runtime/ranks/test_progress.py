"""One position of all ranks: it moves with the batches of each, and goes back if one was not learned."""

from dataclasses import replace

import pytest

from lethe.errors import InvalidSetting, PositionLost
from lethe.ingest.batcher import FilledBatch
from lethe.runtime.ranks.interface import LearnedElsewhere
from lethe.runtime.ranks.progress import Progress
from lethe.runtime.ranks.shares import Shares
from lethe.runtime.step import LearnedBatch
from lethe.stream.settings import StreamSettings
from lethe.stream.source import Position

STREAM = StreamSettings(topic="images", stop_after=40)
BEGIN = Position({0: 0, 1: 5}, topic_id="x", ends={0: 30, 1: 30})


def begun(ranks: int = 2) -> Progress:
    progress = Progress(STREAM, ranks, None, None)
    progress.begin(BEGIN)
    return progress


def filled(rank: int, offsets: dict[int, int], turn: int = 0) -> FilledBatch:
    return FilledBatch(
        slot=0,
        samples=7,
        first={},
        position=Position(offsets, turn, reported={rank: 3}),
        received=7,
        dead={},
        lost=0,
        skipped=0,
        segments=(),
        arrived=0.0,
        produced=0.0,
        ends=dict.fromkeys(offsets, 50),
        left=None,
        rank=rank,
    )


def test_each_batch_of_a_rank_moves_the_position_of_all() -> None:
    progress = begun()
    first, second = (progress.whole(filled(rank, {rank: 12}, 1)) for rank in (0, 1))
    assert (first.first, first.position.offsets) == ({0: 0, 1: 5}, {0: 12, 1: 5})
    assert (second.first, second.position.offsets) == ({0: 12, 1: 5}, {0: 12, 1: 12})
    assert (first.left, second.left) == (28, 21)
    assert second.position.reported == {0: 3, 1: 3}
    assert [progress.lag(rank) for rank in (0, 1)] == [38, 38]
    assert progress.to_json() == Shares({0: 0, 1: 5}, (1, 1)).to_json()


def with_labels(rank: int, labels: dict[int, int], settled: dict[int, str]) -> FilledBatch:
    made = filled(rank, {rank: 12})
    return replace(made, position=replace(made.position, labels=labels, labels_settled=settled))


def test_each_rank_moves_the_labels_of_its_own_partitions() -> None:
    progress = begun()
    progress.update_topic(replace(BEGIN, labels={0: 3, 1: 4}))
    progress.whole(with_labels(0, {0: 9}, {0: "some"}))
    progress.update_topic(replace(BEGIN, labels={0: 20}))
    mark = progress.mark()
    assert (progress.position.labels, progress.position.labels_settled) == ({0: 9, 1: 4}, {0: "some"})
    progress.whole(with_labels(1, {1: 7}, {1: "more"}))
    assert progress.position.labels_settled == {0: "some", 1: "more"}
    position = progress.whole(with_labels(0, {0: 15}, {})).position
    assert (position.labels, position.labels_settled) == ({0: 15, 1: 7}, {1: "more"})
    progress.rewind(mark)
    assert (progress.position.labels, progress.position.labels_settled) == ({0: 9, 1: 4}, {0: "some"})


def test_a_batch_that_was_not_learned_is_taken_back() -> None:
    progress = begun()
    progress.whole(filled(1, {1: 9}, 0))
    mark = progress.mark()
    progress.whole(filled(0, {0: 12}, 1))
    progress.rewind(mark)
    assert progress.position.offsets == {0: 0, 1: 9}
    assert tuple(progress.turns) == (0, 0)
    assert progress.position.reported == {1: 3}


def test_times_of_another_machine_are_converted_to_the_clock_of_rank_0() -> None:
    learned = LearnedBatch(7, 7, 3, None, 101.0, 0.1, 1.0, 2.0)
    converted = LearnedElsewhere(replace(filled(1, {1: 12}), arrived=100.0), learned).on_clock(50.0)
    assert (converted.filled.arrived, converted.learned) == (150.0, replace(learned, at=151.0))
    assert LearnedElsewhere(filled(1, {1: 12}), None).on_clock(-1.0).learned is None


def test_turns_are_those_of_as_many_ranks_or_begin_anew() -> None:
    shares = Shares({0: 0, 1: 5}, (1, 0))
    assert Progress(STREAM, 2, BEGIN, shares).take_turns() == (1, 0)
    assert Progress(STREAM, 1, BEGIN, shares).take_turns() == ()


def test_another_topic_and_added_partitions_of_a_run_with_an_end_are_refused() -> None:
    with pytest.raises(PositionLost, match="topic images was deleted and created anew"):
        begun().update_topic(replace(BEGIN, topic_id="y"))
    with pytest.raises(InvalidSetting, match=r"stream.stop_after: partitions were added"):
        begun().update_topic(replace(BEGIN, offsets={0: 0, 1: 5, 2: 0}))
    endless = Progress(StreamSettings(topic="images"), 2, None, None)
    endless.begin(BEGIN)
    endless.update_topic(replace(BEGIN, offsets={2: 4}, ends={2: 9}))
    assert endless.position.offsets == {0: 0, 1: 5, 2: 4}
    assert endless.lag(0) == 30 + 5


def test_each_rank_needs_a_partition() -> None:
    with pytest.raises(InvalidSetting, match=r"run.ranks: 3 ranks need a partition each, topic images has 2"):
        begun(3)
