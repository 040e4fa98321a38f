"""Tracks how long a learner has kept its samples, and when they have to be deleted."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from lethe.events import SamplesRetained
from lethe.learners.state import JSON

__all__ = ["Expiry", "NoDeadlines", "NoTimeToLive", "SampleDeadlines", "TimeToLive"]

GRAIN: Final = 100
"""Samples that arrived within 1/100 of the time to live expire together, with the first of them."""

Offsets = Mapping[int, int]


class NoTimeToLive:
    """The time to live of samples that are not kept, or may be kept for any time."""

    is_limited = False

    def create_deadlines(self, since: JSON) -> "NoDeadlines":
        """Return what tracks the age of samples; ``since`` is from the checkpoint."""
        del since
        return NoDeadlines()


@dataclass(frozen=True)
class TimeToLive(NoTimeToLive):
    """How long samples may be kept, in seconds from their arrival in the service.

    The learner deletes them ``margin`` seconds earlier, because ``checkpoints`` files hold them, too,
    until newer ones replace these.
    """

    seconds: float
    margin: float
    checkpoints: int
    is_limited = True

    def create_deadlines(self, since: JSON) -> "NoDeadlines":
        """Return what tracks the age of samples; ``since`` is from the checkpoint."""
        return SampleDeadlines(self, since)


@dataclass(frozen=True, slots=True)
class Expiry:
    """Samples that are due: the first ``samples`` learned, which lie before ``ends`` in the topic.

    The oldest of them that was still kept arrived ``age`` seconds ago and lies at ``first``.
    """

    samples: int
    first: Offsets
    ends: Offsets
    age: float


@dataclass(frozen=True, slots=True)
class _Arrival:
    """Samples that arrived at about the same time: the first of them ``at``, after ``samples`` others."""

    at: float
    samples: int
    offsets: Offsets


class NoDeadlines:
    """The deadlines of a run whose samples have no time to live: nothing is ever due."""

    def learned(self, arrived: float, samples: int, begins: Offsets) -> None:
        """Ignore a batch."""

    def restart(self, begins: Offsets) -> None:
        """Ignore that the topic was created again."""

    def due(self, samples: int, ends: Offsets) -> Expiry | None:
        """Return None: nothing has to be deleted."""
        del samples, ends
        return None

    def checkpoint_written(self, snapshot: JSON) -> None:
        """Ignore a checkpoint."""

    def only_newest_checkpoint_left(self) -> None:
        """Ignore that older checkpoints were deleted."""

    def events(self) -> Iterator[SamplesRetained]:
        """Yield nothing."""
        return iter(())

    def snapshot(self) -> JSON:
        """Return None: a checkpoint stores nothing."""
        return None


class SampleDeadlines(NoDeadlines):
    """Records when samples arrived, and returns those whose time is over.

    Ages are measured on the monotonic clock, and across a restart, during which time to live passes as
    well, on the wall clock. Time is not part of the stream, so a killed and restarted run may delete
    samples at other places of the stream: each record is still learned once, but from the first deletion
    on the weights are not bit for bit those of an uninterrupted run, as with ``--batch-linger``.
    """

    def __init__(
        self,
        ttl: TimeToLive,
        since: JSON = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._ttl, self._clock, self._wall = ttl, clock, wall
        self._arrivals: deque[_Arrival] = deque()  # oldest first
        self._on_disk: deque[float | None] = deque(maxlen=ttl.checkpoints)  # the oldest in each checkpoint
        if since is not None:
            stored = cast("dict[str, Any]", since)
            for at, samples, offsets in stored["arrived"]:
                places = {int(p): offset for p, offset in offsets.items()}
                self._arrivals.append(_Arrival(self._from_wall(at), samples, places))
            self._on_disk.extend(None if at is None else self._from_wall(at) for at in stored["on_disk"])
            self.checkpoint_written(since)

    def learned(self, arrived: float, samples: int, begins: Offsets) -> None:
        """Record a batch whose first sample arrived at ``arrived`` (monotonic clock).

        ``samples`` were learned before it; it begins at the offsets ``begins``.
        """
        if not self._arrivals or arrived - self._arrivals[-1].at >= self._ttl.seconds / GRAIN:
            self._arrivals.append(_Arrival(arrived, samples, begins))

    def restart(self, begins: Offsets) -> None:
        """Note that the topic was created again: what is kept has none of its offsets."""
        self._arrivals = deque(_Arrival(group.at, group.samples, begins) for group in self._arrivals)

    def due(self, samples: int, ends: Offsets) -> Expiry | None:
        """Return what has to be deleted, of ``samples`` learned up to ``ends``; None if nothing has to."""
        limit = self._clock() - (self._ttl.seconds - self._ttl.margin)
        if not self._arrivals or self._arrivals[0].at > limit:
            return None
        first = self._arrivals[0]
        while self._arrivals and self._arrivals[0].at <= limit:
            self._arrivals.popleft()
        stays = self._arrivals[0] if self._arrivals else _Arrival(0.0, samples, ends)
        return Expiry(stays.samples, first.offsets, stays.offsets, self._clock() - first.at)

    def checkpoint_written(self, snapshot: JSON) -> None:
        """Note that a checkpoint with this `snapshot` is on the disk; older ones stay as configured."""
        arrived = cast("dict[str, Any]", snapshot)["arrived"]
        self._on_disk.append(self._from_wall(arrived[0][0]) if arrived else None)

    def only_newest_checkpoint_left(self) -> None:
        """Note that every checkpoint but the newest was deleted."""
        while len(self._on_disk) > 1:
            self._on_disk.popleft()

    def events(self) -> Iterator[SamplesRetained]:
        """Yield the `status`."""
        yield self.status()

    def status(self) -> SamplesRetained:
        """Return the largest possible age of a sample that the learner, or a checkpoint, holds."""
        known = [at for at in self._on_disk if at is not None] + [group.at for group in self._arrivals]
        return SamplesRetained(self._clock() - min(known) if known else 0.0, self._ttl.seconds)

    def snapshot(self) -> JSON:
        """Return what a checkpoint stores; times are on the wall clock, in seconds since 1970."""
        ahead = self._wall() - self._clock()
        arrived: list[JSON] = [
            [round(group.at + ahead, 3), group.samples, {str(p): o for p, o in group.offsets.items()}]
            for group in self._arrivals
        ]
        on_disk: list[JSON] = [None if at is None else round(at + ahead, 3) for at in self._on_disk]
        return {"arrived": arrived, "on_disk": on_disk}

    def _from_wall(self, at: float) -> float:
        return self._clock() - max(0.0, self._wall() - at)
