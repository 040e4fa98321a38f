"""One turn of the loop after another: every sample is learned once, then gone, and all of it is told."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor

from service.errors import DivergedLoss
from service.evaluation.evaluator import Evaluator
from service.evaluation.history import History
from service.events import (
    BatchLearned,
    BrokerSeen,
    Evaluated,
    Event,
    Lag,
    Measured,
    RecordsDeadLettered,
    RecordsLost,
    RecordsReceived,
    SegmentStarted,
    Turned,
)
from service.feeder import BrokerState
from service.learners.base import Learned, LearnerContext
from service.learners.finetune import Finetune
from service.loop import Loop
from service.probeset import ProbeSet
from service.wire import Reason, Sample
from tests.feeds import LAYOUT, Dead, Gap, Item, MemoryFeed, images, segment

E = TypeVar("E")

EVERY = 32
"""Samples between two evaluations; four batches of the memory feed."""


class Remembering(Finetune):
    """`Finetune` that, against the contract, keeps what it was given: copies, and the views themselves."""

    def __init__(self, context: LearnerContext) -> None:
        super().__init__(context)
        self.learned: list[Tensor] = []
        self.views: list[Tensor] = []
        self.predicted = 0

    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        self.learned.append(x_BCHW.clone())
        self.views += [x_BCHW, y_B]
        return super().learn(x_BCHW, y_B)

    def predict(self, x_BCHW: Tensor) -> Tensor:
        self.predicted += 1
        return super().predict(x_BCHW)


@dataclass
class Run:
    """What one run of the loop did."""

    feed: MemoryFeed
    learner: Remembering
    history: History
    events: list[Event]

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def images(self) -> np.ndarray:
        return torch.cat(self.learner.learned).numpy()


Stopping = Callable[[Run], bool]


def learn(
    items: Iterable[Item] | MemoryFeed,
    *,
    probes: Sequence[str] = ("a", "b"),
    every: int = EVERY,
    stopping: Stopping = lambda run: False,
    learner: Remembering | None = None,
) -> Run:
    """Run the loop over ``items`` until they, or ``stopping``, end it."""
    feed = items if isinstance(items, MemoryFeed) else MemoryFeed(items)
    run = Run(feed, learner or Remembering(LearnerContext(LAYOUT)), History(probes), [])
    loop = Loop(
        feed=feed,
        learner=run.learner,
        evaluator=Evaluator([probe(name) for name in probes], subset=10, seed=0) if probes else None,
        evaluate_every=every,
        history=run.history,
        emit=run.events.append,
        stopping=lambda: stopping(run),
    )
    loop.run()
    return run


def probe(name: str) -> ProbeSet:
    x_NCHW, y_N = images(40, seed=99)
    return ProbeSet(name, x_NCHW, y_N, "made up", "none needed")


def pixels(items: Iterable[Item]) -> np.ndarray:
    return np.stack([item.pixels for item in items if isinstance(item, Sample)])


def mixed(count: int) -> list[Sample]:
    """Samples of segments a and b in turns."""
    return [replace(sample, segment="ab"[index % 2]) for index, sample in enumerate(segment(None, count))]


def test_every_sample_is_learned_once_and_in_order() -> None:
    items = [*segment("a", 50), *segment("b", 45, seed=1)]
    run = learn(items)
    assert np.array_equal(run.images, pixels(items))
    assert [len(x) for x in run.learner.learned] == [8] * 11 + [7]
    assert run.history.samples == 95


def test_no_pixel_and_no_label_is_left_after_a_turn() -> None:
    left: list[int] = []

    def look(run: Run) -> bool:
        latest = run.learner.views[-2:]  # the slots of earlier ones hold other batches by now
        left.append(sum(int(view.count_nonzero()) for view in latest))
        return False

    run = learn(segment("a", 64), stopping=look)
    assert len(run.learner.views) == 16
    assert set(left) == {0}
    assert run.feed.slots.resident == 0
    assert not run.feed.slots.x_SBCHW.any()


def test_every_record_is_accounted_for() -> None:
    good = segment("a", 60)
    items: list[Item] = [
        *good[:20],
        Dead(Reason.NULL_VALUE),
        Gap(3),
        *good[20:30],
        Dead(Reason.OVERSIZED),
        Dead(Reason.NULL_VALUE),
        *good[30:],
        Gap(2),
        Dead(Reason.UNDECODABLE),
    ]
    run = learn(items)
    dead = run.of(RecordsDeadLettered)
    assert sum(event.samples for event in run.of(BatchLearned)) == 60
    assert sum(event.count for event in dead) == 4
    assert {event.reason for event in dead} == {Reason.NULL_VALUE, Reason.OVERSIZED, Reason.UNDECODABLE}
    assert sum(event.count for event in run.of(RecordsReceived)) == 64
    assert sum(event.count for event in run.of(RecordsLost)) == 5
    assert run.of(Lag)[-1] == Lag(partition=0, offset=69, records=0)


def test_a_batch_of_malformed_records_alone_is_accounted_and_nothing_is_learned() -> None:
    run = learn([Dead(), Dead()])
    assert run.learner.learned == []
    assert run.of(RecordsReceived) == [RecordsReceived(2)]
    assert run.of(BatchLearned) == []
    assert run.feed.committed[-1].offsets == {0: 2}


def test_a_turn_is_told_when_nothing_is_left_of_it() -> None:
    run = learn(segment("a", 24))
    assert run.of(Turned)[-1] == Turned(resident=0)
    assert run.of(Turned)[0] == Turned(resident=16)  # the other two slots were filled meanwhile
    assert len(run.of(Turned)) == 3


def test_what_was_predicted_before_learning_is_counted() -> None:
    run = learn(segment("a", 400))
    batches = run.of(BatchLearned)
    right = sum(event.correct for event in batches)
    assert batches[-1].prequential == right / 400 == run.history.prequential.cumulative
    assert batches[0].correct <= 6, "an untrained learner guesses"
    assert sum(event.correct for event in batches[-5:]) >= 30, "bright rows are easy to learn"
    assert all(event.loss is not None and event.step_seconds > 0 for event in batches)
    assert all(0 <= event.residency_seconds < 10 and 0 <= event.latency_seconds < 10 for event in batches)


def test_the_untrained_learner_is_row_0_of_the_matrix() -> None:
    run = learn(segment("a", 24))
    first, then = run.events[:2]
    assert isinstance(first, Evaluated)
    assert (first.samples, first.full, first.visit, first.ends_segment) == (0, True, 0, False)
    assert isinstance(then, Measured)
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
    last = run.of(Measured)[-1]
    assert last.segments == ("a", "b", "a")
    assert [list(row) for row in last.R[1:]] == [list(event.accuracy.values()) for event in ends]
    assert last.scores.bwt is not None


def test_a_switch_is_noticed_before_the_first_sample_of_the_new_segment_is_learned() -> None:
    run = learn([*segment("a", 45), *segment("b", 43, seed=1)])  # the switch is within the sixth batch
    at = run.events.index(SegmentStarted("b", 2, samples=40))
    ended, measured = run.events[at - 2 : at]
    assert isinstance(ended, Evaluated)
    assert (ended.samples, ended.ends_segment, ended.segment) == (40, True, "a")
    assert isinstance(measured, Measured)
    assert sum(event.samples for event in run.events[:at] if isinstance(event, BatchLearned)) == 40
    assert isinstance(run.events[at + 1], BatchLearned)


def test_an_evaluation_is_always_followed_by_its_scores() -> None:
    run = learn([*segment("a", 80), *segment("b", 80, seed=1)])
    after = [run.events[i + 1] for i, event in enumerate(run.events) if isinstance(event, Evaluated)]
    assert len(after) == 1 + 5 + 2
    assert all(isinstance(event, Measured) for event in after)


def test_a_batch_that_goes_back_and_forth_is_no_switch() -> None:
    run = learn([*segment("a", 24), *mixed(24), *segment("b", 24, seed=1)])
    assert run.of(SegmentStarted) == [SegmentStarted("a", 1, 0), SegmentStarted("b", 2, 48)]


def test_samples_without_a_segment_are_no_switch() -> None:
    run = learn([*segment("a", 24), *segment(None, 24), *segment("a", 24)])
    assert run.of(SegmentStarted) == [SegmentStarted("a", 1, 0)]


def test_a_stream_without_segments_is_evaluated_and_has_no_matrix_row_but_the_first() -> None:
    run = learn(segment(None, 80))
    assert run.of(SegmentStarted) == []
    assert [event.samples for event in run.of(Evaluated)] == [0, 32, 64, 80]
    assert len(run.of(Measured)[-1].R) == 1


def test_the_probes_subsets_are_evaluated_every_so_many_samples() -> None:
    run = learn(segment("a", 200), every=50)  # which batches of 8 do not hit
    midway = [event for event in run.of(Evaluated) if not event.full]
    assert [event.samples for event in midway] == [56, 104, 152, 200]
    assert all(event.visit == 1 and not event.ends_segment for event in midway)


def test_a_cadence_shorter_than_a_batch_evaluates_once_a_batch() -> None:
    run = learn(segment("a", 40), every=1)
    assert [event.samples for event in run.of(Evaluated) if not event.full] == [8, 16, 24, 32, 40]


def test_watching_changes_neither_the_learner_nor_the_prequential_accuracy() -> None:
    items = [*segment("a", 100), *segment("b", 100, seed=1)]
    watched, alone = learn(items, every=8), learn(items, probes=())
    before, after = alone.learner.state().tensors, watched.learner.state().tensors
    assert watched.learner.predicted > 0
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert before.keys() == after.keys()
    assert watched.history.prequential == alone.history.prequential
    assert [e.correct for e in watched.of(BatchLearned)] == [e.correct for e in alone.of(BatchLearned)]
    assert [e.loss for e in watched.of(BatchLearned)] == [e.loss for e in alone.of(BatchLearned)]


def test_without_probes_segments_are_told_and_nothing_is_evaluated() -> None:
    run = learn([*segment("a", 40), *segment("b", 40, seed=1)], probes=())
    assert [event.name for event in run.of(SegmentStarted)] == ["a", "b"]
    assert not run.of(Evaluated)
    assert not run.of(Measured)
    assert run.learner.predicted == 0
    assert run.history.samples == 80


def test_asked_to_stop_it_learns_no_further_batch() -> None:
    items = MemoryFeed(segment("a", 400), ends=False)
    run = learn(items, stopping=lambda run: len(run.of(BatchLearned)) == 3)
    assert run.history.samples == 24 == sum(event.count for event in run.of(RecordsReceived))
    assert not any(event.ends_segment for event in run.of(Evaluated)), "the segment has not ended"


def test_asked_to_stop_during_an_evaluation_it_drops_the_evaluation() -> None:
    items = [*segment("a", 40), *segment("b", 40, seed=1)]

    def during_the_second_full_evaluation(run: Run) -> bool:
        return bool(run.of(SegmentStarted)) and run.history.samples == 40

    run = learn(items, probes=("a", "b"), every=1000, stopping=during_the_second_full_evaluation)
    assert [event.samples for event in run.of(Evaluated)] == [0]
    assert run.history.samples == 40
    assert run.history.segments == ["a"]


def test_asked_to_stop_before_the_first_batch_it_learns_nothing() -> None:
    run = learn(segment("a", 40), stopping=lambda run: True)
    assert run.learner.learned == []
    assert not run.of(BatchLearned)
    assert not run.of(Evaluated)


def test_a_feed_without_news_keeps_the_loop_turning() -> None:
    items = MemoryFeed(segment("a", 8), ends=False)
    run = learn(items, stopping=lambda run: len(run.of(Turned)) == 5)
    assert len(run.of(BatchLearned)) == 1
    assert run.of(Turned) == [Turned(0)] * 5


def test_a_diverged_loss_stops_the_run_with_the_batch_not_counted() -> None:
    class Diverging(Remembering):
        def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
            if len(self.learned) == 2:
                raise DivergedLoss("the loss of a batch is nan")
            return super().learn(x_BCHW, y_B)

    events: list[Event] = []
    history, feed = History([]), MemoryFeed(segment("a", 40))
    loop = Loop(
        feed, Diverging(LearnerContext(LAYOUT)), None, EVERY, history, events.append, stopping=lambda: False
    )
    with pytest.raises(DivergedLoss):
        loop.run()
    assert history.samples == 16
    assert sum(event.count for event in events if isinstance(event, RecordsReceived)) == 16
    assert sum(isinstance(event, BatchLearned) for event in events) == 2
    assert all(position.offsets[0] <= 16 for position in feed.committed)


def test_the_broker_s_comings_and_goings_are_told_in_their_place() -> None:
    samples = segment("a", 24)
    down = BrokerState(up=False, detail="gone fishing")
    run = learn([BrokerState(up=True), *samples[:16], down, *samples[16:]])
    told = [event for event in run.events if isinstance(event, BrokerSeen | BatchLearned)]
    assert told[0] == BrokerSeen(up=True)
    assert told[3] == BrokerSeen(up=False, detail="gone fishing")
    assert len(told) == 5


def test_the_position_of_the_last_batch_is_committed() -> None:
    run = learn(segment("a", 44))
    assert run.feed.committed[0].offsets == {0: 8}, "the first batch shows lag tools that somebody reads"
    assert run.feed.committed[-1].offsets == {0: 44}
    assert len(run.feed.committed) <= 3, "in between, once a second is enough"


def test_the_same_stream_makes_the_same_learner() -> None:
    items = [*segment("a", 100), *segment("b", 60, seed=1)]
    first, second = learn(items), learn(items)
    states = first.learner.state().tensors, second.learner.state().tensors
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert first.history.to_json() == second.history.to_json()


def test_a_batch_is_stamped_with_how_long_it_took() -> None:
    class Slow(Remembering):
        def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
            time.sleep(0.02)
            return super().learn(x_BCHW, y_B)

    run = learn(segment("a", 16), learner=Slow(LearnerContext(LAYOUT)))
    for event in run.of(BatchLearned):
        assert 0.02 <= event.step_seconds <= event.residency_seconds
        assert event.latency_seconds >= 0.02
