"""The interface between the loop and the process that reads: batches and messages in stream order."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from lethe.ingest.batcher import AcknowledgedDeadLetters, FilledBatch, Start
from lethe.ingest.messages import BrokerState, CommitState, IncompleteBatchDiscarded
from lethe.ingest.slots import Slots
from lethe.stream.source import Position, Purged
from lethe.wire import Labels, Pixels

__all__ = ["Batch", "Feed", "FeedMessage"]


class Batch:
    """A filled slot. ``x_BCHW`` (uint8) and ``y_B`` (int64) are views that `discard` sets to zero.

    So is ``unlabelled_UCHW``, the samples without a label, the last one first.
    """

    def __init__(self, slots: Slots, filled: FilledBatch) -> None:
        self.filled = filled
        self.x_BCHW: Pixels = slots.x_SBCHW[filled.slot, : filled.samples]
        self.y_B: Labels = slots.y_SB[filled.slot, : filled.samples]
        places = len(slots.y_SB[filled.slot])
        self.unlabelled_UCHW: Pixels = slots.x_SBCHW[filled.slot, places - filled.unlabelled :]
        self.features_BD: npt.NDArray[np.int8] | None = None
        """Those of the learner for ``x_BCHW``, if it has computed them ahead."""
        self._slots = slots

    def discard(self) -> int:
        """Overwrite pixels and labels with zeros; return the number of samples discarded that had a label."""
        self.discard_features()
        return self._slots.discard(self.filled.slot)

    def discard_features(self) -> None:
        """Overwrite features that were computed ahead with zeros."""
        if self.features_BD is not None:
            self.features_BD[...] = 0
        self.features_BD = None


FeedMessage = Batch | AcknowledgedDeadLetters | BrokerState | CommitState | IncompleteBatchDiscarded | Purged
"""What a feed delivers: batches, and changes of its state between them."""


class Feed(Protocol):
    """Batches in stream order, as the loop reads them."""

    def next(self, timeout: float) -> FeedMessage | None:
        """Return the next message, or None if there is none within ``timeout`` seconds."""

    def release(self, batch: Batch) -> None:
        """Discard a batch's pixels and free its slot."""

    def commit(self, position: Position, keep: Position | None = None) -> None:
        """Publish how far learning is, for lag tools, and where it may fall back to, for purges.

        Records before ``keep`` (by default ``position``) may be deleted from the broker.
        """

    def pause(self, start: Start | None) -> None:
        """Overwrite every slot and read nothing until `resume`, then again from ``start``.

        None is where reading began. Batches delivered before are void.
        """

    def resume(self) -> None:
        """Continue reading after a `pause`."""

    @property
    def resident(self) -> int:
        """Samples whose pixels are in memory."""

    def close(self) -> None:
        """Stop reading and overwrite every slot."""
