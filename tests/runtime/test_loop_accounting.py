"""Each record is learned, dead-lettered or counted as lost, with any batches, segments and policy."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lethe.events import BatchLearned, Event, RecordsDeadLettered, RecordsLost, RecordsReceived
from lethe.ingest.batcher import AcknowledgedDeadLetters
from lethe.ingest.feed import Batch
from lethe.ingest.memory_feed import Malformed
from lethe.learners.base import Learned, LearnerContext
from lethe.privacy.audit.receipt_writer import Receipts
from lethe.runtime.feed_events import FeedEvents
from lethe.wire import Reason, Sample
from tests.support.feeds import LAYOUT, Gap, Item, ScriptedFeed, segment
from tests.support.runs import Remembering, learn


class Counting(Remembering):
    """A learner that remembers images and learns nothing, so that many streams can be tried."""

    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        self.learned.append(x_BCHW.clone())
        return Learned(predicted_B=torch.zeros_like(y_B), loss=0.5)


LEARNER = Counting(LearnerContext(LAYOUT))
NAMES = st.sampled_from(["a", "b", "c", None])
SEGMENTS = st.lists(st.tuples(NAMES, st.integers(1, 40)), min_size=1, max_size=6)
FAULTS = st.lists(st.tuples(st.integers(0, 200), st.sampled_from([Malformed(), Gap(1), Gap(3)])), max_size=8)


def stream(segments: Sequence[tuple[str | None, int]], faults: Sequence[tuple[int, Item]]) -> list[Item]:
    items: list[Item] = []
    for seed, (name, count) in enumerate(segments):
        items += segment(name, count, seed)
    for place, fault in faults:
        items.insert(min(place, len(items)), fault)
    return items


@settings(max_examples=150, deadline=None)
@given(SEGMENTS, FAULTS, st.integers(1, 64), st.integers(2, 5), st.booleans())
def test_learned_dead_lettered_and_lost_records_add_up_to_the_sent_ones(
    segments: list[tuple[str | None, int]],
    faults: list[tuple[int, Item]],
    size: int,
    slots: int,
    apart: bool,
) -> None:
    items = stream(segments, faults)
    LEARNER.learned.clear()
    run = learn(ScriptedFeed(items, size, slots), learner=LEARNER, probes=(), apart=apart)
    sent = sum(item.records if isinstance(item, Gap) else 1 for item in items)
    learned = sum(event.samples for event in run.of(BatchLearned))
    dead = sum(event.count for event in run.of(RecordsDeadLettered))
    lost = sum(event.count for event in run.of(RecordsLost))
    assert learned + dead + lost == sent
    samples = [item for item in items if isinstance(item, Sample)]
    assert learned == run.history.samples == len(samples)
    assert np.array_equal(run.images, np.stack([sample.pixels for sample in samples]))


def test_a_last_batch_that_is_returned_at_a_switch_is_learned_when_it_is_read_again() -> None:
    run = learn(ScriptedFeed([*segment("a", 60), *segment("b", 40, seed=1)], size=50), apart=True)
    assert run.feed.handed_back == 1
    assert run.history.samples == 100
    assert list(run.history.segments) == ["a", "b"]
    assert run.history.closed


def test_malformed_records_are_counted_once_even_if_their_batch_is_read_later_or_again() -> None:
    events: list[Event] = []
    feed_events = FeedEvents(events.append, Receipts())
    feed_events.count_unsettled(AcknowledgedDeadLetters({"undecodable": 2}, {0: 9}))
    feed_events.count_unsettled(AcknowledgedDeadLetters({"undecodable": 3, "oversized": 1}, {0: 12}))
    assert feed_events.unsettled == {"undecodable": 3, "oversized": 1}
    feed_events.count_unsettled(
        AcknowledgedDeadLetters({"undecodable": 1}, {0: 12})
    )  # read again, after it had gone back
    feed = ScriptedFeed([*segment("a", 2), *[Malformed(Reason.UNDECODABLE)] * 4, Malformed(Reason.OVERSIZED)])
    batch = feed.next(0)
    assert isinstance(batch, Batch)
    feed_events.account(batch.filled)
    assert feed_events.unsettled == {}
    dead = Counter[str]()
    for event in events:
        if isinstance(event, RecordsDeadLettered):
            dead[event.reason] += event.count
    assert dead == {"undecodable": 4, "oversized": 1}
    assert sum(event.count for event in events if isinstance(event, RecordsReceived)) == 7
