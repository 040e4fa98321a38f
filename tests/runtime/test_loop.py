"""The loop, turn by turn: every sample is learned once, then gone, and everything is emitted as events."""

import itertools
import time
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from lethe.errors import DivergedLoss, PositionLost
from lethe.evaluation.history import History
from lethe.events import (
    BatchLearned,
    BrokerStatus,
    Evaluated,
    Event,
    Lag,
    LoopTurned,
    RecordsDeadLettered,
    RecordsLost,
    RecordsReceived,
    WeightsMoved,
)
from lethe.ingest.feed import Batch
from lethe.ingest.memory_feed import Malformed
from lethe.ingest.messages import BrokerState
from lethe.learners.base import Learned, LearnerContext
from lethe.learners.gradient import motion
from lethe.runtime.loop import Loop
from lethe.runtime.persistence import CommitsOnly
from lethe.wire import Reason, Sample
from tests.support.feeds import LAYOUT, Gap, Item, ScriptedFeed, segment
from tests.support.runs import EVERY, Remembering, Run, learn


def pixels(items: Iterable[Item]) -> np.ndarray:
    return np.stack([item.pixels for item in items if isinstance(item, Sample)])


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
        Malformed(Reason.NULL_VALUE),
        Gap(3),
        *good[20:30],
        Malformed(Reason.OVERSIZED),
        Malformed(Reason.NULL_VALUE),
        *good[30:],
        Gap(2),
        Malformed(Reason.UNDECODABLE),
    ]
    run = learn(items)
    dead = run.of(RecordsDeadLettered)
    assert sum(event.samples for event in run.of(BatchLearned)) == 60
    assert sum(event.discarded for event in run.of(BatchLearned)) == 60
    assert sum(event.count for event in dead) == 4
    assert {event.reason for event in dead} == {Reason.NULL_VALUE, Reason.OVERSIZED, Reason.UNDECODABLE}
    assert sum(event.count for event in run.of(RecordsReceived)) == 64
    assert sum(event.count for event in run.of(RecordsLost)) == 5
    assert run.of(Lag)[-1] == Lag(offsets={0: 69}, records={0: 0})


def test_a_batch_of_malformed_records_alone_is_accounted_and_nothing_is_learned() -> None:
    run = learn([Malformed(), Malformed()])
    assert run.learner.learned == []
    assert run.of(RecordsReceived) == [RecordsReceived(2)]
    assert run.of(BatchLearned) == []
    assert run.feed.committed[-1].offsets == {0: 2}


def test_a_turn_is_emitted_once_its_samples_are_gone() -> None:
    run = learn(segment("a", 24))
    assert run.of(LoopTurned)[-1] == LoopTurned(resident=0)
    assert run.of(LoopTurned)[0] == LoopTurned(resident=16)  # the other two slots were filled meanwhile
    assert len(run.of(LoopTurned)) == 3


def test_withheld_results_do_not_depend_on_the_predictions() -> None:
    right = segment("a", 80)
    wrong = [replace(item, label=(item.label + 1) % 10) for item in right]
    received = []
    for items in (right, wrong):
        run = learn(items, probes=(), prequential=False)
        batches = [
            (e.samples, e.correct, e.loss, e.prequential, e.prequential_fading) for e in run.of(BatchLearned)
        ]
        received.append((batches, run.history.to_json()))
    assert received[0] == received[1]
    assert received[0][0] == [(8, None, None, None, None)] * 10


class Keeping(Remembering):
    """A learner that keeps all samples that it saw."""

    @property
    def kept(self) -> int:
        return sum(len(x_BCHW) for x_BCHW in self.learned)


def test_a_turn_reports_how_many_samples_the_learner_keeps() -> None:
    run = learn(segment("a", 24), learner=Keeping(LearnerContext(LAYOUT)))
    assert [event.kept for event in run.of(LoopTurned)] == [8, 16, 24]


def test_what_was_measured_of_the_weights_is_emitted_once() -> None:
    run = learn(segment("a", 400))
    batches, moved = run.of(BatchLearned), run.of(WeightsMoved)
    assert len(moved) == -(-len(batches) // motion.EVERY) > 1
    assert [event.step is None for event in moved] == [True, *[False] * (len(moved) - 1)]


def test_predictions_from_before_learning_are_counted() -> None:
    run = learn(segment("a", 400))
    batches = run.of(BatchLearned)
    right = sum(event.correct or 0 for event in batches)
    assert batches[-1].prequential == right / 400 == run.history.prequential.cumulative
    assert (batches[0].correct or 0) <= 6, "an untrained learner guesses"
    assert sum(event.correct or 0 for event in batches[-5:]) >= 30, "bright rows are easy to learn"
    assert all(event.loss is not None and event.step_seconds > 0 for event in batches)
    assert all(0 <= event.residency_seconds < 10 and 0 <= event.latency_seconds < 10 for event in batches)


def test_asked_to_stop_it_learns_no_further_batch() -> None:
    items = ScriptedFeed(segment("a", 400), ends=False)
    run = learn(items, stopping=lambda run: len(run.of(BatchLearned)) == 3)
    assert run.history.samples == 24 == sum(event.count for event in run.of(RecordsReceived))
    assert not any(event.ends_segment for event in run.of(Evaluated)), "the segment has not ended"


def test_asked_to_stop_before_the_first_batch_it_learns_nothing() -> None:
    run = learn(segment("a", 40), stopping=lambda run: True)
    assert run.learner.learned == []
    assert not run.of(BatchLearned)
    assert not run.of(Evaluated)


def test_a_feed_without_news_keeps_the_loop_turning() -> None:
    items = ScriptedFeed(segment("a", 8), ends=False)
    run = learn(items, stopping=lambda run: len(run.of(LoopTurned)) == 5)
    assert len(run.of(BatchLearned)) == 1
    assert run.of(LoopTurned) == [LoopTurned(0)] * 5


def test_a_diverged_loss_stops_the_run_with_the_batch_not_counted() -> None:
    class Diverging(Remembering):
        def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
            if len(self.learned) == 2:
                raise DivergedLoss("the loss of a batch is nan")
            return super().learn(x_BCHW, y_B)

    events: list[Event] = []
    history, feed = History([]), ScriptedFeed(segment("a", 40))
    loop = Loop(
        feed, Diverging(LearnerContext(LAYOUT)), None, EVERY, history, events.append, stopping=lambda: False
    )
    with pytest.raises(DivergedLoss):
        loop.run()
    assert history.samples == 16
    assert sum(event.count for event in events if isinstance(event, RecordsReceived)) == 16
    assert sum(isinstance(event, BatchLearned) for event in events) == 2
    assert feed.committed[-1].offsets == {0: 16}, "what was learned before stays learned"


def test_the_brokers_status_is_emitted_in_order() -> None:
    samples = segment("a", 24)
    down = BrokerState(up=False, detail="gone fishing")
    run = learn([BrokerState(up=True), *samples[:16], down, *samples[16:]])
    received = [event for event in run.events if isinstance(event, BrokerStatus | BatchLearned)]
    assert received[0] == BrokerStatus(up=True)
    assert received[3] == BrokerStatus(up=False, detail="gone fishing")
    assert len(received) == 5


def test_the_position_of_the_last_batch_is_committed() -> None:
    feed = ScriptedFeed(segment("a", 44))
    times = (turn * 0.4 for turn in itertools.count())
    learn(feed, persistence=CommitsOnly(feed, clock=lambda: next(times)))
    assert feed.committed[-1].offsets == {0: 44}
    assert len(feed.committed) <= 3, "in between, once a second is enough"


def test_an_error_of_the_feed_ends_the_run_after_a_checkpoint() -> None:
    class Purged(ScriptedFeed):
        def next(self, timeout: float) -> Batch | BrokerState | None:
            news = super().next(timeout)
            if news is None:
                raise PositionLost("the log begins at 5000")
            return news

    feed = Purged(segment("a", 24), ends=False)
    with pytest.raises(PositionLost):
        learn(feed)
    assert feed.committed[-1].offsets == {0: 24}


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
        assert event.step_seconds >= 0.02
        assert event.residency_seconds >= 0.02
        assert event.latency_seconds >= 0.02
