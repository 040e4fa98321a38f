"""The batches of one rank: what it has ready, what it has reported, and what it learns."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from lethe.ingest.batcher import AcknowledgedDeadLetters, Start
from lethe.ingest.feed import Batch
from lethe.ingest.messages import BrokerState, CommitState, IncompleteBatchDiscarded
from lethe.ingest.reader_process import SPAWN, ProcessContext, ReaderProcess
from lethe.learners.base import Learner
from lethe.learners.capabilities import Pools
from lethe.learners.fixed_features import LearnsFromFeatures
from lethe.privacy.controls import Controls
from lethe.runtime.ranks.interface import LearnedElsewhere
from lethe.runtime.ranks.notes import Note, Opening, Pause
from lethe.runtime.step import learn_batch
from lethe.settings import Settings
from lethe.stream.purge import Sharing
from lethe.stream.source import Position, Purged

__all__ = ["OtherMessage", "Reading"]

OtherMessage = CommitState | Purged
"""Messages of rank 0's reader about what it does for all ranks."""


class Reading:
    """Reads a rank's own partitions, of samples and of late labels: p of which p % ``size`` is ``rank``.

    Within the bounds of ``controls``, which keep only names of ``segments`` if these are given. If they
    purge, rank 0's reader does so for all ranks.
    """

    def __init__(
        self,
        settings: Settings,
        rank: int,
        size: int,
        controls: Controls,
        segments: frozenset[str] | None,
        processes: ProcessContext = SPAWN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._rank, self._size = settings, rank, size
        self._controls, self._segments = controls, segments
        self._processes, self._clock = processes, clock
        self._reader: ReaderProcess | None = None
        self._waiting_since = clock()
        self._broker: BrokerState | None = None
        self._dead: AcknowledgedDeadLetters | None = None
        self._detects = self._paused = False
        self._returned = 0
        self.batch: Batch | None = None
        """The batch that is ready."""
        self.ended = False
        """Whether the partitions were read to their ends."""

    def open(self, opening: Opening) -> None:
        """Start the reader process."""
        rank, controls = self._rank, self._controls
        self._detects, self._paused = opening.detects, opening.paused
        position = self._own(opening.position, opening.turns)
        own = position.offsets
        until = None if opening.until is None else {p: opening.until[p] for p in own}
        self.ended = until is not None and all(own[p] >= until[p] for p in own)
        purges = controls.purges and rank == 0
        keep = opening.position if opening.keep is None and purges else opening.keep
        self._reader = ReaderProcess(
            self._settings.stream.model_copy(update={"rank": rank, "world": self._size, "stop_after": None}),
            self._settings.batch,
            self._settings.sample,
            position,
            controls.residency_seconds,
            self._paused,
            Sharing(opening.service, keep, purges=purges),
            self._processes,
            segments=self._segments,
            dead_letter_key=bytes.fromhex(opening.dead_letter_key) if opening.dead_letter_key else None,
            until=until,
            late=self._settings.labels if self._settings.labels.topic else None,
        )
        self._waiting_since = self._clock()

    def pause(self, pause: Pause) -> None:
        """Discard what is read, and read nothing until `resume`, then again from where learning is."""
        if self.batch is not None:
            self.batch.discard_features()
        self.batch, self._paused = None, True
        if self._reader is not None:
            self._reader.pause(Start(self._own(pause.position, pause.turns), None))

    def resume(self) -> None:
        """Continue to read after a pause."""
        self._paused, self._waiting_since = False, self._clock()
        if self._reader is not None:
            self._reader.resume()

    def _own(self, whole: Position, turns: Sequence[int]) -> Position:
        """Return the position in this rank's partitions."""
        own = {p: offset for p, offset in whole.offsets.items() if p % self._size == self._rank}
        return replace(whole, offsets=own, turn=turns[self._rank] if turns else 0)

    def wait(self, timeout: float) -> OtherMessage | None:
        """Wait for a batch, unless one is ready; return what else the reader says. Raises its errors."""
        read_all = self.ended and not self._paused  # the others are not kept waiting for it
        deadline = self._clock() + (0.0 if read_all else timeout)
        while self.batch is None and self._reader is not None:
            message = self._reader.next(max(0.0, deadline - self._clock()))
            match message:
                case Batch():
                    self.batch, self._waiting_since = message, self._clock()
                case BrokerState():
                    self._broker = message
                    break  # the others wait for nothing else while the broker is away
                case IncompleteBatchDiscarded():
                    self._returned = message.times
                case AcknowledgedDeadLetters():
                    self._dead = replace(message, rank=self._rank)
                case None:
                    break
                case _:
                    return message
        return None

    def prepare(self, learner: Pools) -> float:
        """Compute the features of the batch that is ready, before it is learned; return the seconds it took.

        They are the same before and after other batches are learned, so a rank that would wait for others can
        do this meanwhile. Nothing is done for a learner without fixed features.
        """
        batch = self.batch
        if batch is None or not batch.filled.samples or batch.features_BD is not None:
            return 0.0
        if not isinstance(learner, LearnsFromFeatures):
            return 0.0
        began = self._clock()
        batch.features_BD = learner.features(torch.from_numpy(batch.x_BCHW)).numpy()
        return self._clock() - began

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
        batch, broker, dead, returned = self.batch, self._broker, self._dead, self._returned
        self._broker, self._dead, self._returned = None, None, 0
        return Note(
            ready=batch is not None,
            segments=() if batch is None else batch.filled.segments,
            skipped=0 if batch is None else batch.filled.skipped,
            ended=self.ended,
            idle=batch is None and 0 < linger <= self._clock() - self._waiting_since,
            stop=stop,
            resident=self.resident,
            broker=broker,
            dead=dead,
            returned=returned,
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
        if self.batch is not None:
            self.batch.discard_features()
        if self._reader is not None:
            self._reader.close()
