"""How long a learner has had the samples that it keeps, and when it has to let go of them."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from service.events import SamplesKept
from service.learners.base import JSON

__all__ = ["Cut", "Kept", "TimeToLive"]

GRAIN: Final = 100
"""Samples that arrived within so small a part of the time to live are let go of together, with the first."""

Offsets = Mapping[int, int]


@dataclass(frozen=True, slots=True)
class TimeToLive:
    """How long samples may be kept, in seconds from their arrival in the service.

    The learner lets go of them when only ``margin`` is left of it: until then they are in checkpoints,
    too, of which ``checkpoints`` are kept.
    """

    seconds: float
    margin: float
    checkpoints: int


@dataclass(frozen=True, slots=True)
class Cut:
    """None of the first ``samples`` learned may be kept any more: what lies before ``ends`` in the topic.

    The first of them that was let go of only now arrived ``age`` seconds ago, and lies at ``first``.
    """

    samples: int
    first: Offsets
    ends: Offsets
    age: float


@dataclass(frozen=True, slots=True)
class _Arrived:
    """Samples that arrived at about the same time, the first of them ``at``, before which others were."""

    at: float
    samples: int
    offsets: Offsets


class Kept:
    """Notes when samples arrived, and tells which ones have been here long enough.

    The clock is this process's monotonic one, that of the wall only where no other goes on: over a
    restart, during which time to live goes by as well. Time is no part of the stream. So a run that
    let samples go may let them go at other places of the stream when it is killed and started again:
    each record is still learned once, but the weights are not bit for bit those of a run that was left
    alone, as with ``--batch-linger``. Before the first sample has been here that long, they are.
    """

    def __init__(
        self,
        ttl: TimeToLive,
        since: JSON = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._ttl, self._clock, self._wall = ttl, clock, wall
        self._arrived: deque[_Arrived] = deque()  # oldest first
        self._on_disk: deque[float | None] = deque(maxlen=ttl.checkpoints)  # the oldest in each checkpoint
        if since is not None:
            kept = cast("dict[str, Any]", since)
            for at, samples, offsets in kept["arrived"]:
                places = {int(p): offset for p, offset in offsets.items()}
                self._arrived.append(_Arrived(self._from_wall(at), samples, places))
            self._on_disk.extend(None if at is None else self._from_wall(at) for at in kept["on_disk"])
            self.written(since)

    def learned(self, arrived: float, samples: int, begins: Offsets) -> None:
        """Take note of a batch: when its first sample arrived, and how many were learned before it.

        ``arrived`` is on the clock; ``begins`` are the offsets at which it begins.
        """
        if not self._arrived or arrived - self._arrived[-1].at >= self._ttl.seconds / GRAIN:
            self._arrived.append(_Arrived(arrived, samples, begins))

    def overdue(self, samples: int, ends: Offsets) -> Cut | None:
        """Return what has to go now, of ``samples`` learned up to ``ends``; None while nothing has."""
        limit = self._clock() - (self._ttl.seconds - self._ttl.margin)
        if not self._arrived or self._arrived[0].at > limit:
            return None
        first = self._arrived[0]
        while self._arrived and self._arrived[0].at <= limit:
            self._arrived.popleft()
        stays = self._arrived[0] if self._arrived else _Arrived(0.0, samples, ends)
        return Cut(stays.samples, first.offsets, stays.offsets, self._clock() - first.at)

    def written(self, snapshot: JSON) -> None:
        """Take note that a checkpoint with this `snapshot` is on the disk, beside as many as are kept."""
        arrived = cast("dict[str, Any]", snapshot)["arrived"]
        self._on_disk.append(self._from_wall(arrived[0][0]) if arrived else None)

    def levelled(self) -> None:
        """Take note that there are no other checkpoints than the newest any more."""
        while len(self._on_disk) > 1:
            self._on_disk.popleft()

    def standing(self) -> SamplesKept:
        """Return how old the oldest sample may be that the learner, or a checkpoint, holds."""
        known = [at for at in self._on_disk if at is not None] + [group.at for group in self._arrived]
        return SamplesKept(self._clock() - min(known) if known else 0.0, self._ttl.seconds)

    def snapshot(self) -> JSON:
        """Return what a checkpoint keeps of it; times are on the wall, in seconds since 1970."""
        ahead = self._wall() - self._clock()
        arrived: list[JSON] = [
            [round(group.at + ahead, 3), group.samples, {str(p): o for p, o in group.offsets.items()}]
            for group in self._arrived
        ]
        on_disk: list[JSON] = [None if at is None else round(at + ahead, 3) for at in self._on_disk]
        return {"arrived": arrived, "on_disk": on_disk}

    def _from_wall(self, at: float) -> float:
        return self._clock() - max(0.0, self._wall() - at)
