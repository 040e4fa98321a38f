"""The order of a stream: which row stands at which place, as a pure function of scenario and seed.

Any place can be asked for at once, which is what resuming needs. No data set is read: a row is
named by its place in the pool of its segment (see `Segment.pool`).
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate
from typing import Final
from zlib import crc32

import numpy as np
import numpy.typing as npt

from producers.scenario import Scenario
from service.wire import Reason

__all__ = ["CLASSES", "Order", "Place"]

STEEPNESS: Final = 10.0
"""A blend's sigmoid runs from −5 to 5 over its width: from 0.7 % to 99.3 %."""
KINDS: Final = tuple(Reason)
CLASSES: Final = 10

Integers = npt.NDArray[np.int64]


class _Use(IntEnum):
    """Each use of randomness draws from a generator of its own, so that none disturbs another."""

    SHUFFLE = 0
    BLEND = 1
    MALFORMED = 2
    LABEL_NOISE = 3


@dataclass(frozen=True, slots=True)
class Place:
    """What stands at one place of the stream.

    ``segment`` is the segment by schedule, ``source`` the one whose row it is: inside a blend
    the two may differ. ``row`` is a place in the pool of ``source``. ``label_shift`` is 0, or
    what is added, modulo 10, to make the label wrong. ``fault`` is how the record is malformed,
    if it is: it stands in place of the row, so a stream's length does not depend on it.
    """

    segment: int
    source: int
    row: int
    label_shift: int
    fault: Reason | None


class Order:
    """The places of one scenario under one seed, each segment shortened to ``samples`` at most.

    The same arguments give the same order (with the same version of numpy's generators).
    """

    def __init__(self, scenario: Scenario, seed: int, samples: int | None = None) -> None:
        self.scenario = scenario
        self.lengths = scenario.lengths(samples)
        shortened = "" if samples is None else f"@{samples}"
        self.run = f"{scenario.name}{shortened}/{seed}"
        """What tells this order from others: SCENARIO/SEED, or SCENARIO@SAMPLES/SEED."""
        self._seed = seed
        self._starts = [0, *accumulate(self.lengths)]
        self._halves = [blend // 2 for blend in scenario.blends(samples)]
        self._offsets = self._pool_offsets()
        self._shuffles: dict[Hashable, Integers] = {}
        self._from_next: dict[int, Integers] = {}
        self._faults: dict[int, Integers] = {}
        self._shifts: dict[int, Integers] = {}

    @property
    def ramps(self) -> list[tuple[int, int]]:
        """The places where each blend begins, and behind its end."""
        return [
            (start - half, start + half)
            for start, half in zip(self._starts[1:], self._halves, strict=True)
            if half
        ]

    def __len__(self) -> int:
        return self._starts[-1]

    def at(self, index: int) -> Place:
        """Return what stands at ``index``; raises IndexError outside 0 to len − 1."""
        if not 0 <= index < len(self):
            raise IndexError(f"place {index} of a stream of {len(self)}")
        segment = bisect_right(self._starts, index) - 1
        place = index - self._starts[segment]
        source, nth = self._source(segment, place)
        kind = self._faults_of(segment)[place]
        return Place(
            segment=segment,
            source=source,
            row=int(self._shuffle_of(source)[self._offsets[source] + nth]),
            label_shift=int(self._shifts_of(source)[nth]),
            fault=KINDS[kind] if kind >= 0 else None,
        )

    def _pool_offsets(self) -> list[int]:
        used: Counter[Hashable] = Counter()
        offsets = []
        for segment, length in zip(self.scenario.segments, self.lengths, strict=True):
            offsets.append(used[segment.pool])
            used[segment.pool] += length
        return offsets

    def _source(self, segment: int, place: int) -> tuple[int, int]:
        """Return whose row stands at ``place`` of ``segment``, and its number among that segment's rows."""
        half = self._halves[segment]
        if place >= self.lengths[segment] - half:
            return self._blended(segment, place - self.lengths[segment] + half)
        if segment and place < self._halves[segment - 1]:
            return self._blended(segment - 1, place + self._halves[segment - 1])
        return segment, place

    def _blended(self, segment: int, place: int) -> tuple[int, int]:
        """The same for ``place`` of the window in which ``segment`` gives way to the next."""
        from_next = self._from_next_of(segment)
        taken = int(from_next[place])
        if from_next[place + 1] > taken:
            return segment + 1, taken
        return segment, self.lengths[segment] - self._halves[segment] + place - taken

    def _from_next_of(self, segment: int) -> Integers:
        """How many rows of the next segment stand before each place of the window, int64 [2·half + 1]."""
        if segment not in self._from_next:
            half = self._halves[segment]
            position = (np.arange(2 * half) + 0.5 - half) / (2 * half)
            # A row is the next segment's where sigmoid(STEEPNESS · position) > u, that is, where
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
            # the pool is named, not numbered: a segment put before it must not change its shuffle
            generator = self._generator(_Use.SHUFFLE, crc32(repr(pool).encode()))
            self._shuffles[pool] = generator.permutation(size)
        return self._shuffles[pool]

    def _faults_of(self, segment: int) -> Integers:
        """The number of the fault at each place, or −1; every kind is as frequent as the others."""
        if segment not in self._faults:
            chosen = self._chosen(_Use.MALFORMED, segment, self.scenario.segments[segment].malformed)
            faults = np.full(self.lengths[segment], -1, np.int64)
            faults[chosen] = np.arange(len(chosen)) % len(KINDS)
            self._faults[segment] = faults
        return self._faults[segment]

    def _shifts_of(self, segment: int) -> Integers:
        if segment not in self._shifts:
            chosen = self._chosen(_Use.LABEL_NOISE, segment, self.scenario.segments[segment].label_noise)
            shifts = np.zeros(self.lengths[segment], np.int64)
            # chosen is in random order, so that going round makes every wrong label as likely
            shifts[chosen] = np.arange(len(chosen)) % (CLASSES - 1) + 1
            self._shifts[segment] = shifts
        return self._shifts[segment]

    def _chosen(self, use: _Use, segment: int, share: float) -> Integers:
        """Exactly ``share`` of the segment's places, rounded, in random order."""
        length = self.lengths[segment]
        return self._generator(use, segment).permutation(length)[: round(share * length)]

    def _generator(self, use: _Use, which: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, use, which])
