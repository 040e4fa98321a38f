"""Makes progress durable: with checkpoints in a state folder, or with commits to the broker alone."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Protocol

from lethe.checkpointing.checkpoint import Checkpoint
from lethe.checkpointing.checkpointer import Checkpointer
from lethe.ingest.feed import Feed
from lethe.learners.finite import FiniteCheck
from lethe.privacy.audit.receipt_writer import Receipts
from lethe.runtime.storage import Storage
from lethe.stream.source import Position

__all__ = ["Checkpoints", "CommitsOnly", "Persistence", "Publisher"]

COMMIT_SECONDS: Final = 1.0
"""Interval between commits to the broker in a run without a state folder."""


class Persistence(Protocol):
    """Stores how far learning is, for a restart and for lag tools."""

    @property
    def failure(self) -> str:
        """Why the latest checkpoint is not on the disk; empty if it is, or if none is written."""

    def poll(self, position: Position | None, samples: int) -> bool:
        """Handle a finished write without waiting; return whether a checkpoint is due."""

    def save(self, position: Position, unsettled: Mapping[str, int], *, replace_newest: bool = False) -> None:
        """Start writing a checkpoint of the run at ``position``.

        ``unsettled`` counts, by reason, malformed records beyond ``position``. ``replace_newest`` replaces
        the newest checkpoint if that holds as many samples. Raises DivergedLoss, with nothing written, if
        the learner's state is not finite.
        """

    def wait(self) -> None:
        """Wait until the checkpoint being written, if any, is on the disk or has failed."""

    def saved(self, samples: int) -> bool:
        """Return whether a checkpoint with so many samples is on the disk; true if none is written."""

    def replace_older(self) -> bool:
        """Replace every older checkpoint with the newest; return whether that succeeded."""

    def finish(self, position: Position | None) -> None:
        """Make the last position durable, at the end of the run."""


class CommitsOnly:
    """Progress of a run without a state folder: the broker alone learns the position."""

    failure = ""

    def __init__(self, feed: Feed, clock: Callable[[], float] = time.monotonic) -> None:
        self._feed, self._clock = feed, clock
        self._committed = clock()

    def poll(self, position: Position | None, samples: int) -> bool:
        """Commit if `COMMIT_SECONDS` have passed; no checkpoint is ever due."""
        del samples
        if position is not None and self._clock() - self._committed >= COMMIT_SECONDS:
            self._committed = self._clock()
            self._feed.commit(position)
        return False

    def save(self, position: Position, unsettled: Mapping[str, int], *, replace_newest: bool = False) -> None:
        """Write nothing."""

    def wait(self) -> None:
        """Wait for nothing."""

    def saved(self, samples: int) -> bool:
        """Return true: nothing waits for a checkpoint that is never written."""
        del samples
        return True

    def replace_older(self) -> bool:
        """Return false: there are no checkpoints."""
        return False

    def finish(self, position: Position | None) -> None:
        """Commit the last position."""
        if position is not None:
            self._feed.commit(position)


class Checkpoints:
    """Progress of a run with a state folder.

    ``take`` makes a checkpoint of the run as it is between two batches, and ``finite`` checks the learner's
    state before that.
    """

    def __init__(
        self,
        checkpointer: Checkpointer,
        take: Callable[[Position, Mapping[str, int]], Checkpoint],
        finite: FiniteCheck,
    ) -> None:
        self._checkpointer, self._take, self._finite = checkpointer, take, finite

    @property
    def failure(self) -> str:
        """Why the latest checkpoint is not on the disk; empty if it is."""
        return self._checkpointer.failure

    def poll(self, position: Position | None, samples: int) -> bool:
        """Handle a finished write without waiting; return whether a checkpoint is due."""
        del position
        self._checkpointer.poll()
        return self._checkpointer.due(samples)

    def save(self, position: Position, unsettled: Mapping[str, int], *, replace_newest: bool = False) -> None:
        """Start writing a checkpoint of the run at ``position``; raises DivergedLoss."""
        self._finite.require()
        self._checkpointer.wait()  # before taking, or two copies of the learner would be in memory
        self._checkpointer.take(self._take(position, unsettled), replace_newest=replace_newest)

    def wait(self) -> None:
        """Wait until the checkpoint being written, if any, is on the disk or has failed."""
        self._checkpointer.wait()

    def saved(self, samples: int) -> bool:
        """Return whether a checkpoint with so many samples is on the disk."""
        return self._checkpointer.samples_on_disk == samples

    def replace_older(self) -> bool:
        """Replace every older checkpoint with the newest; return whether that succeeded."""
        return self._checkpointer.replace_older()

    def finish(self, position: Position | None) -> None:
        """Wait for the last checkpoint; its position is committed once it is on the disk."""
        del position
        self._checkpointer.wait()


class Publisher:
    """Publishes a checkpoint that is on the disk: receipts to the ledger, then the position to the broker.

    The position is committed only while a feed is open; the ledger is complete either way.
    """

    def __init__(self, receipts: Receipts, storage: Storage) -> None:
        self._receipts, self._storage = receipts, storage
        self._commit: Callable[[Checkpoint], None] = _commit_nothing

    def __call__(self, checkpoint: Checkpoint) -> None:
        """Publish ``checkpoint``. Raises OSError, with nothing committed, if the ledger cannot be written."""
        self._receipts.on_disk(checkpoint)
        self._commit(checkpoint)

    @contextmanager
    def committing_to(self, feed: Feed) -> Iterator[None]:
        """Commit positions through ``feed`` inside the ``with`` block."""

        def commit(checkpoint: Checkpoint) -> None:
            feed.commit(checkpoint.position, self._storage.earliest_position(checkpoint.position))

        self._commit = commit
        try:
            yield
        finally:
            self._commit = _commit_nothing


def _commit_nothing(checkpoint: Checkpoint) -> None:
    """Leave the position to the restart, which continues from the checkpoint."""
