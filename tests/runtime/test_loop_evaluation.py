"""The loop evaluates when it should and notices segments in time, without changing what is learned."""

from dataclasses import replace

import torch

from lethe.events import BatchLearned, Evaluated, LoopTurned, ScoresUpdated, SegmentStarted
from lethe.wire import Sample
from tests.support.feeds import segment
from tests.support.runs import Run, learn


def mixed(count: int) -> list[Sample]:
    """Return samples of segments a and b in turns."""
    return [replace(sample, segment="ab"[index % 2]) for index, sample in enumerate(segment(None, count))]


def test_the_untrained_learner_is_row_0_of_the_matrix() -> None:
    run = learn(segment("a", 24))
    first, then = (
        event for event in run.events if isinstance(event, Evaluated | ScoresUpdated) and not event.samples
    )
    assert isinstance(first, Evaluated)
    assert (first.samples, first.full, first.visit, first.ends_segment) == (0, True, 0, False)
    assert isinstance(then, ScoresUpdated)
    assert [list(row) for row in then.R] == [[first.accuracy["a"], first.accuracy["b"]]]


def test_the_matrix_has_a_row_for_each_segment() -> None:
    run = learn([*segment("a", 40), *segment("b", 40, seed=1), *segment("a", 40, seed=2)])
    ends = [event for event in run.of(Evaluated) if event.ends_segment]
    assert [(event.visit, event.segment, event.samples) for event in ends] == [
        (1, "a", 40),
        (2, "b", 80),
        (3, "a", 120),
    ]
    assert all(event.full for event in ends)
    last = run.of(ScoresUpdated)[-1]
    assert last.segments == ("a", "b", "a")
    assert [list(row) for row in last.R[1:]] == [list(event.accuracy.values()) for event in ends]
    assert last.scores.bwt is not None


def test_a_switch_is_noticed_before_the_first_sample_of_the_new_segment_is_learned() -> None:
    run = learn([*segment("a", 45), *segment("b", 43, seed=1)])  # the switch is within the sixth batch
    at = run.events.index(SegmentStarted("b", 2, samples=45))
    ended, measured = run.events[at - 2 : at]
    assert isinstance(ended, Evaluated)
    assert (ended.samples, ended.ends_segment, ended.segment) == (40, True, "a")
    assert isinstance(measured, ScoresUpdated)
    assert sum(event.samples for event in run.events[:at] if isinstance(event, BatchLearned)) == 40
    following = [type(event) for event in run.events[at + 1 :]]
    assert following.index(BatchLearned) < following.index(LoopTurned)


def test_an_evaluation_is_always_followed_by_its_scores() -> None:
    run = learn([*segment("a", 80), *segment("b", 80, seed=1)])
    after = [run.events[i + 1] for i, event in enumerate(run.events) if isinstance(event, Evaluated)]
    assert len(after) == 1 + 5 + 2
    assert all(isinstance(event, ScoresUpdated) for event in after)


def test_alternating_names_are_not_a_switch() -> None:
    run = learn([*segment("a", 40), *mixed(24), *segment("b", 40, seed=1)])
    assert run.history.segments == ["a", "b"]
    assert [switch.samples for switch in run.history.switches] == [0, 63], "the mixture ends with a b"


def test_samples_without_a_segment_are_not_a_switch() -> None:
    run = learn([*segment("a", 24), *segment(None, 24), *segment("a", 24)])
    assert run.of(SegmentStarted) == [SegmentStarted("a", 1, 0)]


def test_the_probes_subsets_are_evaluated_at_the_given_interval() -> None:
    run = learn(segment("a", 200), every=50)  # which batches of 8 do not hit
    midway = [event for event in run.of(Evaluated) if not event.full]
    assert [event.samples for event in midway] == [56, 104, 152, 200]
    assert all(event.visit == 1 and not event.ends_segment for event in midway)


def test_a_cadence_shorter_than_a_batch_evaluates_once_a_batch() -> None:
    run = learn(segment("a", 40), every=1)
    assert [event.samples for event in run.of(Evaluated) if not event.full] == [8, 16, 24, 32, 40]


def test_evaluations_change_neither_the_learner_nor_the_prequential_accuracy() -> None:
    items = [*segment("a", 100), *segment("b", 100, seed=1)]
    watched, alone = learn(items, every=8), learn(items, probes=())
    before, after = alone.learner.state().tensors, watched.learner.state().tensors
    assert watched.learner.predicted > 0
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert before.keys() == after.keys()
    assert watched.history.prequential == alone.history.prequential
    assert [e.correct for e in watched.of(BatchLearned)] == [e.correct for e in alone.of(BatchLearned)]
    assert [e.loss for e in watched.of(BatchLearned)] == [e.loss for e in alone.of(BatchLearned)]


def test_without_probes_segments_are_emitted_and_nothing_is_evaluated() -> None:
    run = learn([*segment("a", 40), *segment("b", 40, seed=1)], probes=())
    assert [event.name for event in run.of(SegmentStarted)] == ["a", "b"]
    assert not run.of(Evaluated)
    assert not run.of(ScoresUpdated)
    assert run.learner.predicted == 0
    assert run.history.samples == 80


def test_asked_to_stop_during_an_evaluation_it_drops_the_evaluation() -> None:
    items = [*segment("a", 40), *segment("b", 40, seed=1)]

    def during_the_second_full_evaluation(run: Run) -> bool:
        return bool(run.of(SegmentStarted)) and run.history.samples == 40

    run = learn(items, probes=("a", "b"), every=1000, stopping=during_the_second_full_evaluation)
    assert [event.samples for event in run.of(Evaluated)] == [0]
    assert run.history.samples == 40
    assert run.history.segments == ["a"]


def test_a_stream_without_segments_is_evaluated_and_has_no_matrix_row_but_the_first() -> None:
    run = learn(segment(None, 80))
    assert run.of(SegmentStarted) == []
    assert [event.samples for event in run.of(Evaluated)] == [0, 32, 64, 80]
    assert len(run.of(ScoresUpdated)[-1].R) == 1
