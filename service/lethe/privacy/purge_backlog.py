"""Tracks the records that were learned and not yet purged from the broker."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import zip_longest
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Final, cast

from lethe.events import PurgeLag
from lethe.learners.state import JSON

__all__ = ["NoPurgeBacklog", "PurgeBacklog", "merged_backlog"]

MOST_ENTRIES: Final = 1000
GRAIN: Final = 100
"""Records learned within 1/100 of the time allowed count as learned together, with the first of them."""

Offsets = Mapping[int, int]


class NoPurgeBacklog:
    """The backlog of a run whose policy does not purge: it is always empty."""

    starts: Offsets = MappingProxyType({})

    def learned(self, ends: Offsets) -> None:
        """Ignore learned records."""

    def purged(self, starts: Offsets) -> Offsets:
        """Return that nothing was purged."""
        del starts
        return {}

    def restart(self) -> None:
        """Ignore that the topic was deleted."""

    def lag(self) -> PurgeLag:
        """Return that purging is not behind learning."""
        return PurgeLag(0.0, 0, 0.0)

    def events(self) -> Iterator[PurgeLag]:
        """Yield nothing."""
        return iter(())

    def snapshot(self) -> JSON:
        """Return None: a checkpoint stores nothing."""
        return None


class PurgeBacklog(NoPurgeBacklog):
    """Records when records were learned and where they end, for those still in the broker.

    ``within`` is how long they may stay there, in seconds. ``since`` is what `snapshot` returned before a
    restart: times on the wall clock, because the monotonic one does not survive the process.
    """

    def __init__(
        self,
        within: float,
        since: JSON = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._within, self._clock, self._wall = within, clock, wall
        self._learned: deque[tuple[float, dict[int, int]]] = deque()  # oldest first
        self.starts: dict[int, int] = {}
        """First offset of each partition's log, as far as known; empty until the broker has answered."""
        self.answered = False
        """Whether the broker has reported, since this service started, the beginnings of its logs."""
        if since is not None:
            stored = cast("dict[str, Any]", since)
            self.starts = {int(p): offset for p, offset in stored["starts"].items()}
            for learned_at, ends in stored["debts"]:
                age = max(0.0, wall() - learned_at)
                self._learned.append((clock() - age, {int(p): end for p, end in ends.items()}))

    def learned(self, ends: Offsets) -> None:
        """Record that everything before ``ends`` has been learned."""
        now = self._clock()
        if self._learned and now - self._learned[-1][0] < self._within / GRAIN:
            self._learned[-1][1].update(ends)
        else:
            self._learned.append((now, dict(ends)))
        if len(self._learned) > MOST_ENTRIES:  # nothing was purged for long: half the resolution suffices
            entries = list(self._learned)
            pairs = zip_longest(entries[::2], entries[1::2], fillvalue=entries[-1])
            self._learned = deque((at, ends) for (at, _), (_, ends) in pairs)

    def purged(self, starts: Offsets) -> Offsets:
        """Record that the logs begin at ``starts``; return the new starts of those partitions that moved.

        Empty if no learned record was purged since the last call.
        """
        self.answered = True
        if not self.starts and not self._learned:
            self.starts = dict(starts)  # what was gone before the first record was learned
        learned = self._learned[-1][1] if self._learned else self.starts
        until = {p: min(start, learned.get(p, start)) for p, start in starts.items()}
        moved = {p: offset for p, offset in until.items() if offset > self.starts.get(p, 0)}
        self.starts.update(moved)
        while self._learned and all(starts.get(p, 0) >= end for p, end in self._learned[0][1].items()):
            self._learned.popleft()
        return moved

    def restart(self) -> None:
        """Note that the topic was deleted: none of its learned records is left."""
        self._learned.clear()
        self.starts.clear()

    def lag(self) -> PurgeLag:
        """Return how far purging is behind learning."""
        if not self._learned:
            return PurgeLag(0.0, 0, self._within)
        (oldest, _), (_, ends) = self._learned[0], self._learned[-1]
        records = sum(max(0, end - self.starts.get(p, 0)) for p, end in ends.items())
        return PurgeLag(self._clock() - oldest, records, self._within)

    def events(self) -> Iterator[PurgeLag]:
        """Yield the `lag`, once the broker has reported the beginnings of its logs."""
        if self.answered:
            yield self.lag()

    def snapshot(self) -> JSON:
        """Return what a checkpoint stores; times are on the wall clock, in seconds since 1970."""
        ahead = self._wall() - self._clock()
        debts: list[JSON] = [
            [round(at + ahead, 3), {str(p): end for p, end in ends.items()}] for at, ends in self._learned
        ]
        return {"starts": {str(p): offset for p, offset in self.starts.items()}, "debts": debts}


def merged_backlog(snapshots: Iterable[JSON]) -> JSON:
    """Return the snapshot of one backlog of the records in several, of different partitions."""
    stored = [cast("dict[str, Any]", snapshot) for snapshot in snapshots if snapshot is not None]
    if not stored:
        return None
    starts: dict[str, JSON] = {p: offset for backlog in stored for p, offset in backlog["starts"].items()}
    ends: dict[str, JSON] = {}
    debts: list[JSON] = []
    every = (debt for backlog in stored for debt in backlog["debts"])
    for learned_at, more in sorted(every, key=itemgetter(0)):
        ends = ends | more
        debts.append([learned_at, ends])
    return {"starts": starts, "debts": debts}
