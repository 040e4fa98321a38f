"""What was learned and is still in the broker, and since when: the debt that a purge pays."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from itertools import zip_longest
from typing import Any, Final, cast

from service.events import PurgeLag
from service.learners.base import JSON

__all__ = ["Unpurged"]

MOST_DEBTS: Final = 1000
GRAIN: Final = 100
"""Records learned within so small a part of the time allowed count as learned together, with the first."""

Offsets = Mapping[int, int]


class Unpurged:
    """Holds, for records learned at about the same time, when that was and where they end.

    ``within`` is how long they may stay, in seconds. ``since`` is what `snapshot` returned before a
    restart: times on the wall, because no other clock goes on; in between the monotonic one counts.
    """

    def __init__(
        self,
        within: float,
        since: JSON = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._within, self._clock, self._wall = within, clock, wall
        self._debts: deque[tuple[float, dict[int, int]]] = deque()  # oldest first
        self.starts: dict[int, int] = {}
        """Where the log of each partition begins, as far as is known; empty before the broker told."""
        self.asked = False
        """The broker has told, since this service started, what it still has."""
        if since is not None:
            kept = cast("dict[str, Any]", since)
            self.starts = {int(p): offset for p, offset in kept["starts"].items()}
            for learned_at, ends in kept["debts"]:
                age = max(0.0, wall() - learned_at)
                self._debts.append((clock() - age, {int(p): end for p, end in ends.items()}))

    def learned(self, ends: Offsets) -> None:
        """Take note that everything before ``ends`` has been learned by now."""
        now = self._clock()
        if self._debts and now - self._debts[-1][0] < self._within / GRAIN:
            self._debts[-1][1].update(ends)
        else:
            self._debts.append((now, dict(ends)))
        if len(self._debts) > MOST_DEBTS:  # nobody has purged for long: two by two is exact enough
            debts = list(self._debts)
            pairs = zip_longest(debts[::2], debts[1::2], fillvalue=debts[-1])
            self._debts = deque((at, ends) for (at, _), (_, ends) in pairs)

    def purged(self, starts: Offsets) -> Offsets:
        """Take note of where the logs begin now; return by how much that is known to be further than before.

        Empty if nothing that was learned has been purged since.
        """
        self.asked = True
        if not self.starts and not self._debts:
            self.starts = dict(starts)  # what was gone before the first record was learned
        learned = self._debts[-1][1] if self._debts else self.starts
        until = {p: min(start, learned.get(p, start)) for p, start in starts.items()}
        moved = {p: offset for p, offset in until.items() if offset > self.starts.get(p, 0)}
        self.starts.update(moved)
        while self._debts and all(starts.get(p, 0) >= end for p, end in self._debts[0][1].items()):
            self._debts.popleft()
        return moved

    def lag(self) -> PurgeLag:
        """Return how far purging is behind learning."""
        if not self._debts:
            return PurgeLag(0.0, 0, self._within)
        (oldest, _), (_, ends) = self._debts[0], self._debts[-1]
        records = sum(max(0, end - self.starts.get(p, 0)) for p, end in ends.items())
        return PurgeLag(self._clock() - oldest, records, self._within)

    def snapshot(self) -> JSON:
        """Return what a checkpoint keeps of it."""
        gone = self._wall() - self._clock()
        debts: list[JSON] = [
            [round(at + gone, 3), {str(p): end for p, end in ends.items()}] for at, ends in self._debts
        ]
        return {"starts": {str(p): offset for p, offset in self.starts.items()}, "debts": debts}
