"""A model of more ranks than there are cores here, from what the rounds of a few cost.

A round takes as long as its slowest rank. Then rank 0 receives the report of each rank in turn. Sums, or
gradients, are added up in a ring: each rank sends and receives 2 (n - 1) / n times the bytes (Patarasuk &
Yuan 2009, Bandwidth Optimal All-reduce Algorithms). While rank 0 solves, all wait; the images of an
evaluation are divided among them.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from lethe.experiments.bench.ranks.costs import Fit

__all__ = ["Link", "Simulated", "counts_up_to", "simulate", "simulate_up_to", "widest"]

ROUNDS: Final = 400
"""Simulated rounds; at most as many as have an evaluation or a solve each."""
NOTE_BYTES: Final = 4096
COMMANDS: Final = 2
"""Broadcasts of rank 0 in a round: to learn, and to answer."""


@dataclass(frozen=True, slots=True)
class Link:
    """What connects the ranks."""

    gbit: float = 10.0
    """10⁹ bits per second of each rank, in each direction."""
    latency: float = 50e-6
    """Seconds from one rank to another: what a message takes in one data centre."""

    @property
    def byte_seconds(self) -> float:
        """Seconds that a byte takes."""
        return 8e-9 / self.gbit


@dataclass(frozen=True, slots=True)
class Simulated:
    """The outcome with a number of ranks."""

    ranks: int
    samples_per_second: float
    efficiency: float
    """Speed relative to that of as many services of which none waits for another."""
    shares: Mapping[str, float]
    """Share of the time by what it is spent on."""


def simulate(fit: Fit, ranks: int, link: Link, slowest: float = 1.0, seed: int = 0) -> Simulated:
    """Return the speed of so many ranks, of which one takes ``slowest`` times as long as the others."""
    spent = _spent(fit, ranks, link, slowest, seed)
    alone = _spent(fit, 1, link, 1.0, seed)
    speed, single = (
        ROUNDS * count * fit.batch / sum(parts.values()) for count, parts in ((ranks, spent), (1, alone))
    )
    whole = sum(spent.values())
    return Simulated(
        ranks, speed, speed / (ranks * single), {part: time / whole for part, time in spent.items()}
    )


def simulate_up_to(most: int, fit: Fit, link: Link, slowest: float = 1.0) -> list[Simulated]:
    """Return what `simulate` does for several numbers of ranks up to ``most``."""
    return [simulate(fit, ranks, link, slowest if ranks > 1 else 1.0) for ranks in counts_up_to(most)]


def _spent(fit: Fit, ranks: int, link: Link, slowest: float, seed: int) -> dict[str, float]:
    """Return the seconds of all rounds, by what they are spent on."""
    random = np.random.default_rng(seed)
    spent = dict.fromkeys(("learning", "waiting", "handling", "moving", "solving", "evaluating"), 0.0)
    solved = evaluated = 0
    moving = _moving(fit, ranks, link)
    evaluating = fit.evaluating + fit.predicting / ranks
    for number in range(1, ROUNDS + 1):
        # lognormal, since no batch takes less than no time
        noise = fit.spread * random.standard_normal(ranks) - fit.spread**2 / 2
        took = fit.learning * np.exp(noise)
        took[-1] *= slowest
        spent["learning"] += float(took.mean())
        spent["waiting"] += float(took.max() - took.mean())
        if ranks > 1:
            spent["handling"] += ranks * (fit.handling + NOTE_BYTES * link.byte_seconds)
            spent["handling"] += COMMANDS * link.latency * math.ceil(math.log2(ranks))
        else:
            spent["handling"] += fit.handling
        samples = number * ranks * fit.batch
        moved = fit.moved_every is None
        if fit.moved_every is not None and samples >= solved + fit.moved_every:
            solved, moved = samples, True
            spent["solving"] += fit.solving
        if evaluating and samples // fit.evaluated_every != evaluated // fit.evaluated_every:
            evaluated, moved = samples, True
            spent["evaluating"] += evaluating
        spent["moving"] += moving if moved else 0.0
    return spent


def _moving(fit: Fit, ranks: int, link: Link) -> float:
    """Return the seconds of one sum over all ranks."""
    if ranks == 1 or not fit.moved_bytes:
        return 0.0
    steps = 2 * (ranks - 1)
    return steps / ranks * fit.moved_bytes * (link.byte_seconds + fit.local) + steps * link.latency


def counts_up_to(most: int) -> Iterator[int]:
    """Yield 1, 2, 5, 10, 20, 50 and so on, and ``most``.

    >>> list(counts_up_to(60))
    [1, 2, 5, 10, 20, 50, 60]
    """
    for count in (digit * 10**power for power in range(len(str(most))) for digit in (1, 2, 5)):
        if count < most:
            yield count
    yield most


def widest(simulated: list[Simulated], efficiency: float) -> int:
    """Return the largest number of ranks, of those simulated, up to which the efficiency is no lower."""
    found = 1
    for one in simulated:
        if one.efficiency < efficiency:
            break
        found = one.ranks
    return found
