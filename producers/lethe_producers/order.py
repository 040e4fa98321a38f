"""Determines the order of a stream: the row at each index, as a pure function of scenario and seed.

Any index can be computed without those before it, as resuming requires. No data set is read: a row is
identified by its index in the pool of its segment (see `Segment.pool`). An endless order is lap
after lap of the same rows, each lap in an order of its own.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from itertools import accumulate
from typing import Final
from zlib import crc32

import numpy as np
import numpy.typing as npt

from lethe.wire import Reason
from lethe_producers.malformed import kinds_of
from lethe_producers.scenario import Loop, Scenario

__all__ = ["EndlessOrder", "Order", "Place"]

STEEPNESS: Final = 10.0
"""A blend's sigmoid runs from −5 to 5 over its width, which is from 0.7 % to 99.3 %."""

Integers = npt.NDArray[np.int64]


class _Use(IntEnum):
    """Uses of randomness, each with a generator of its own, so that they are independent."""

    SHUFFLE = 0
    BLEND = 1
    MALFORMED = 2
    LABEL_NOISE = 3


@dataclass(frozen=True, slots=True)
class Place:
    """The content of one index of the stream.

    ``segment`` is the scheduled segment and ``source`` the segment of the row; they can differ within a
    blend. ``row`` is an index in the pool of ``source``. ``label_shift`` is 0, or the number that is added
    to the label, modulo the number of classes, to make it wrong. ``fault`` is the reason why the record is
    malformed, or None: it replaces the row, so that the length of the stream does not depend on it.
    """

    segment: int
    source: int
    row: int
    label_shift: int
    fault: Reason | None


class Order:
    """The order of a scenario under a seed, with at most ``samples`` records of each segment.

    The same arguments give the same order, with the same version of numpy's generators. ``lap`` counts the
    laps before this one, see `EndlessOrder`.
    """

    def __init__(self, scenario: Scenario, seed: int, samples: int | None = None, lap: int = 0) -> None:
        self.scenario = scenario
        self.lengths = scenario.lengths(samples)
        shortened = "" if samples is None else f"@{samples}"
        self.run = f"{scenario.name}{shortened}/{seed}"
        """Identifies this order: SCENARIO/SEED, or SCENARIO@SAMPLES/SEED."""
        self._seed, self._lap = seed, lap
        self._starts = [0, *accumulate(self.lengths)]
        self._halves = [blend // 2 for blend in scenario.blends(samples)]
        self._offsets = self._pool_offsets()
        self._shuffles: dict[Hashable, Integers] = {}
        self._from_next: dict[int, Integers] = {}
        self._faults: dict[int, Integers] = {}
        self._kinds = kinds_of(scenario.layout)
        self._shifts: dict[int, Integers] = {}

    @property
    def ramps(self) -> list[tuple[int, int]]:
        """The first index of each blend, and the first index after it."""
        return [
            (start - half, start + half)
            for start, half in zip(self._starts[1:], self._halves, strict=True)
            if half
        ]

    @property
    def after_last_blend(self) -> int:
        """Records of the last segment alone, without those that blend with the one before."""
        return self.lengths[-1] - (self._halves[-2] if len(self._halves) > 1 else 0)

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def total(self) -> int | None:
        """Number of records; None if there is no end."""
        return len(self)

    def at(self, index: int) -> Place:
        """Return the place at ``index``; raises IndexError outside 0 to len − 1."""
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of a stream of {len(self)}")
        segment = bisect_right(self._starts, index) - 1
        place = index - self._starts[segment]
        source, nth = self._source(segment, place)
        kind = self._faults_of(segment)[place]
        return Place(
            segment=segment,
            source=source,
            row=int(self._shuffle_of(source)[self._offsets[source] + nth]),
            label_shift=int(self._shifts_of(source)[nth]),
            fault=self._kinds[kind] if kind >= 0 else None,
        )

    def _pool_offsets(self) -> list[int]:
        used: Counter[Hashable] = Counter()
        offsets = []
        for segment, length in zip(self.scenario.segments, self.lengths, strict=True):
            offsets.append(used[segment.pool])
            used[segment.pool] += length
        return offsets

    def _source(self, segment: int, place: int) -> tuple[int, int]:
        """Return the segment of the row at ``place`` of ``segment``, and the row's number in that segment."""
        half = self._halves[segment]
        if place >= self.lengths[segment] - half:
            return self._blended(segment, place - self.lengths[segment] + half)
        if segment and place < self._halves[segment - 1]:
            return self._blended(segment - 1, place + self._halves[segment - 1])
        return segment, place

    def _blended(self, segment: int, place: int) -> tuple[int, int]:
        """Do the same for ``place`` of the window in which ``segment`` blends into the next."""
        from_next = self._from_next_of(segment)
        taken = int(from_next[place])
        if from_next[place + 1] > taken:
            return segment + 1, taken
        return segment, self.lengths[segment] - self._halves[segment] + place - taken

    def _from_next_of(self, segment: int) -> Integers:
        """Return the rows of the next segment before each place of the window, int64 [2·half + 1]."""
        if segment not in self._from_next:
            half = self._halves[segment]
            position = (np.arange(2 * half) + 0.5 - half) / (2 * half)
            # A row is the next segment's if sigmoid(STEEPNESS · position) > u, that is, if
            # STEEPNESS · position + logistic noise > 0. Taking the upper half of these instead
            # gives each side exactly half of the window, so that every row is used once.
            noise = self._generator(_Use.BLEND, segment).logistic(size=2 * half)
            chosen = np.argsort(STEEPNESS * position + noise)[half:]
            is_next = np.zeros(2 * half + 1, np.int64)
            is_next[chosen + 1] = 1
            self._from_next[segment] = is_next.cumsum()
        return self._from_next[segment]

    def _shuffle_of(self, segment: int) -> Integers:
        pool = self.scenario.segments[segment].pool
        if pool not in self._shuffles:
            size = self.scenario.segments[segment].pool_size
            if self.scenario.segments[segment].source.ordered:
                return self._shuffles.setdefault(pool, np.arange(size))
            # seeded by the pool's content, not its number: inserting a segment must not change its shuffle
            generator = self._generator(_Use.SHUFFLE, crc32(repr(pool).encode()))
            self._shuffles[pool] = generator.permutation(size)
        return self._shuffles[pool]

    def _faults_of(self, segment: int) -> Integers:
        """Return the number of the fault at each place, or −1; all kinds are equally frequent."""
        if segment not in self._faults:
            chosen = self._chosen(_Use.MALFORMED, segment, self.scenario.segments[segment].malformed)
            faults = np.full(self.lengths[segment], -1, np.int64)
            faults[chosen] = np.arange(len(chosen)) % len(self._kinds)
            self._faults[segment] = faults
        return self._faults[segment]

    def _shifts_of(self, segment: int) -> Integers:
        if segment not in self._shifts:
            chosen = self._chosen(_Use.LABEL_NOISE, segment, self.scenario.segments[segment].label_noise)
            shifts = np.zeros(self.lengths[segment], np.int64)
            # chosen is in random order: cycling makes all wrong labels equally likely
            shifts[chosen] = np.arange(len(chosen)) % (self.scenario.stream_classes.count - 1) + 1
            self._shifts[segment] = shifts
        return self._shifts[segment]

    def _chosen(self, use: _Use, segment: int, share: float) -> Integers:
        """Return exactly ``share`` of the segment's places, rounded, in random order."""
        length = self.lengths[segment]
        return self._generator(use, segment).permutation(length)[: round(share * length)]

    def _generator(self, use: _Use, which: int) -> np.random.Generator:
        lap = (self._lap,) if self._lap else ()
        return np.random.default_rng([self._seed, use, which, *lap])


class EndlessOrder:
    """The laps of a scenario, one after the other, without an end.

    With ``loop`` segment, the laps after the first are of the last segment alone.
    """

    def __init__(
        self, scenario: Scenario, seed: int, samples: int | None = None, loop: Loop = "stream"
    ) -> None:
        first = Order(scenario, seed, samples)
        self.scenario, self._first_length = scenario, len(first)
        self.run = f"{first.run}+" if loop == "stream" else f"{first.run}+last"
        self.lap_length = len(first) if loop == "stream" else first.after_last_blend
        """Records of a lap after the first."""
        self._lap_of: Callable[[int], Order] = lru_cache(2)(lambda lap: Order(scenario, seed, samples, lap))

    @property
    def total(self) -> int | None:
        """Number of records; None if there is no end."""
        return None

    def at(self, index: int) -> Place:
        """Return the place at ``index``; raises IndexError below 0."""
        if index < 0:
            raise IndexError(f"index {index} of an endless stream")
        if index < self._first_length:
            return self._lap_of(0).at(index)
        lap, place = divmod(index - self._first_length, self.lap_length)
        return self._lap_of(lap + 1).at(self._first_length - self.lap_length + place)
