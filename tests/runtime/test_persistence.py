"""Progress is committed to the broker: once a second, or with a state folder once a checkpoint is durable."""

import errno

import pytest

from lethe.checkpointing.checkpoint import Checkpoint
from lethe.privacy.audit.receipt_writer import Receipts
from lethe.runtime.persistence import CommitsOnly, Publisher
from lethe.runtime.storage import Storage
from lethe.stream.source import Position
from tests.support.checkpoints import checkpoint
from tests.support.feeds import ScriptedFeed, segment


def test_the_position_is_committed_once_a_second_and_at_the_end() -> None:
    now = [0.0]
    feed = ScriptedFeed(segment("a", 8))
    persistence = CommitsOnly(feed, clock=lambda: now[0])
    for offset, now[0] in ((8, 0.5), (16, 0.9), (24, 1.1), (32, 1.2), (40, 2.2)):
        assert not persistence.poll(Position({0: offset}), offset)
    persistence.finish(Position({0: 48}))
    assert [position.offsets for position in feed.committed] == [{0: 24}, {0: 40}, {0: 48}]


def test_nothing_is_committed_before_the_first_position() -> None:
    now = [0.0]
    feed = ScriptedFeed(segment("a", 8))
    persistence = CommitsOnly(feed, clock=lambda: now[0])
    now[0] = 5.0
    assert not persistence.poll(None, 0)
    persistence.finish(None)
    assert not feed.committed


def test_nothing_waits_for_a_checkpoint_that_is_never_written() -> None:
    persistence = CommitsOnly(ScriptedFeed(segment("a", 8)))
    persistence.save(Position({0: 8}), {})
    persistence.wait()
    assert persistence.saved(8)
    assert not persistence.failure
    assert not persistence.replace_older()


class Recording(Receipts):
    """Records which checkpoints reached the ledger, and what was committed by then."""

    def __init__(self, feed: ScriptedFeed) -> None:
        self.feed, self.full = feed, False
        self.reached: list[tuple[int, int]] = []

    def on_disk(self, checkpoint: Checkpoint) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.reached.append((checkpoint.samples, len(self.feed.committed)))


def test_receipts_are_in_the_ledger_before_their_position_is_committed() -> None:
    feed = ScriptedFeed(segment("a", 8))
    receipts = Recording(feed)
    publisher = Publisher(receipts, Storage(None))
    with publisher.committing_to(feed):
        publisher(checkpoint(8))
        publisher(checkpoint(16))
    assert receipts.reached == [(8, 0), (16, 1)]
    assert [position.offsets for position in feed.committed] == [{0: 8}, {0: 16}]


def test_a_position_whose_receipts_cannot_be_written_is_not_committed() -> None:
    feed = ScriptedFeed(segment("a", 8))
    receipts = Recording(feed)
    receipts.full = True
    publisher = Publisher(receipts, Storage(None))
    with publisher.committing_to(feed), pytest.raises(OSError, match="No space left"):
        publisher(checkpoint(8))
    assert not feed.committed


def test_without_an_open_feed_the_ledger_is_written_and_nothing_is_committed() -> None:
    feed = ScriptedFeed(segment("a", 8))
    receipts = Recording(feed)
    publisher = Publisher(receipts, Storage(None))
    publisher(checkpoint(8))
    with publisher.committing_to(feed):
        pass
    publisher(checkpoint(16))
    assert [samples for samples, _ in receipts.reached] == [8, 16]
    assert not feed.committed
