"""The batches of one rank: what it has ready, what it has reported, and what it learns."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from lethe.ingest.batcher import AcknowledgedDeadLetters
from lethe.ingest.feed import Batch
from lethe.ingest.messages import BrokerState, CommitState, IncompleteBatchDiscarded
from lethe.ingest.reader_process import SPAWN, ProcessContext, ReaderProcess
from lethe.learners.base import Learner
from lethe.runtime.ranks.interface import LearnedElsewhere
from lethe.runtime.ranks.notes import Note, Opening
from lethe.runtime.step import learn_batch
from lethe.settings import Settings
from lethe.stream.purge import Sharing
from lethe.stream.source import Position, Purged

__all__ = ["OtherMessage", "Reading"]

OtherMessage = CommitState | IncompleteBatchDiscarded | Purged
"""Messages of a reader that concern its own rank alone."""


class Reading:
    """Reads a rank's own partitions: p of which p % ``size`` is ``rank``."""

    def __init__(
        self,
        settings: Settings,
        rank: int,
        size: int,
        processes: ProcessContext = SPAWN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._rank, self._size = settings, rank, size
        self._processes, self._clock = processes, clock
        self._reader: ReaderProcess | None = None
        self._heard = clock()
        self._broker: BrokerState | None = None
        self._dead: AcknowledgedDeadLetters | None = None
        self._detects = False
        self.batch: Batch | None = None
        """The batch that is ready."""
        self.ended = False
        """Whether the partitions were read to their ends."""

    def open(self, opening: Opening) -> None:
        """Start the reader process."""
        whole, rank, size = opening.position, self._rank, self._size
        self._detects = opening.detects
        own = {p: offset for p, offset in whole.offsets.items() if p % size == rank}
        position = replace(whole, offsets=own, turn=opening.turns[rank] if opening.turns else 0)
        until = None if opening.until is None else {p: opening.until[p] for p in own}
        self.ended = until is not None and all(own[p] >= until[p] for p in own)
        self._reader = ReaderProcess(
            self._settings.stream.model_copy(update={"rank": rank, "world": size, "stop_after": None}),
            self._settings.batch,
            self._settings.sample,
            position,
            sharing=Sharing(opening.service, opening.keep, purges=False),
            context=self._processes,
            dead_letter_key=bytes.fromhex(opening.dead_letter_key) if opening.dead_letter_key else None,
            until=until,
        )
        self._heard = self._clock()

    def wait(self, timeout: float) -> OtherMessage | None:
        """Wait for a batch, unless one is ready; return what else the reader says. Raises its errors."""
        deadline = self._clock() + timeout
        while self.batch is None and not self.ended and self._reader is not None:
            message = self._reader.next(max(0.0, deadline - self._clock()))
            match message:
                case Batch():
                    self.batch, self._heard = message, self._clock()
                case BrokerState():
                    self._broker = message
                    break  # the others wait for nothing else while the broker is away
                case AcknowledgedDeadLetters():
                    self._dead = replace(message, rank=self._rank)
                case None:
                    break
                case _:
                    return message
        return None

    def learn(self, learner: Learner) -> LearnedElsewhere | None:
        """Learn the batch that is ready, if one is, and return it with what was learned of it."""
        batch = self.batch
        if batch is None:
            return None
        learned, features = None, None
        if batch.filled.samples:
            learned, features, _ = learn_batch(learner, batch, features=self._detects)
        self.release(batch)
        regimes = learned is not None and learned.regimes  # for which receipts need each sample's place
        filled = replace(batch.filled, rank=self._rank, places=batch.filled.places if regimes else ())
        return LearnedElsewhere(filled, learned, b"" if features is None else features.to_bytes())

    def note(self, *, stop: bool, learned: LearnedElsewhere | None = None) -> Note:
        """Return how this rank stands; changes are in one note. ``learned`` is the last round's batch."""
        linger = self._settings.batch.linger
        batch, broker, dead = self.batch, self._broker, self._dead
        self._broker = self._dead = None
        return Note(
            ready=batch is not None,
            segments=() if batch is None else batch.filled.segments,
            skipped=0 if batch is None else batch.filled.skipped,
            ended=self.ended,
            idle=batch is None and 0 < linger <= self._clock() - self._heard,
            stop=stop,
            resident=self.resident,
            broker=broker,
            dead=dead,
            learned=learned,
        )

    def release(self, batch: Batch) -> None:
        """Discard a batch that was learned; the next one can be read."""
        self.batch, self.ended = None, batch.filled.last
        if self._reader is not None:
            self._reader.release(batch)

    def commit(self, position: Position, keep: Position | None) -> None:
        """Publish how far learning is, in all partitions."""
        if self._reader is not None:
            self._reader.commit(position, keep)

    @property
    def resident(self) -> int:
        """Samples whose pixels are in this rank's memory."""
        return 0 if self._reader is None else self._reader.resident

    @property
    def pids(self) -> Sequence[int]:
        """The process ids of the reader and of those that decode for it; none before they are started."""
        return [] if self._reader is None else self._reader.pids

    def close(self) -> None:
        """Stop reading and overwrite every slot."""
        if self._reader is not None:
            self._reader.close()
