"""Simulates a watched model: how often the sequential test is wrong, and how many images a drop takes.

A model's answer to an image changes by chance with probability ``noise``, to right as often as to wrong.
A fixed subset, asked about in full every round, is the alternative: as large as it has to be to find the
drop in its first round in 95 of 100 cases, at the same probability of any false alarm over all rounds
(normal approximation). It compares accuracies, or the answers image by image.
"""

from dataclasses import dataclass
from math import ceil, sqrt
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from lethe.evaluation.drop_test import DropTest

__all__ = ["DropBench", "false_alarms", "fixed_subset", "images_to_find"]

POWER: Final = 0.95
"""Probability with which a fixed subset finds the drop in its first round."""
MOST_ROUNDS: Final = 5000
"""Rounds after the drop in which it has to be found."""


@dataclass(frozen=True)
class DropBench:
    """What is simulated."""

    lives: int = 1000
    """Services that watch side by side."""
    rounds: int = 10_000
    """Rounds of each without a drop: hours, if one asks every hour."""
    sample: int = 16
    """Images in a round."""
    drop: float = 0.05
    alpha: float = 0.05
    tolerance: float = 0.01
    noise: float = 0.02
    accuracy: float = 0.9
    """Before the drop; counts for the fixed subset that compares accuracies."""
    seed: int = 0


def false_alarms(bench: DropBench, noise: float) -> float:
    """Return the share of lives with an alarm although nothing dropped."""
    random, test = np.random.default_rng(bench.seed), DropTest(bench.alpha, bench.tolerance, bench.lives)
    alarmed = np.zeros(bench.lives, dtype=bool)
    for _ in range(bench.rounds):
        _round(test, bench, random, noise, 0.0)
        alarmed |= test.alarm
    return float(alarmed.mean())


def images_to_find(bench: DropBench, quiet: int) -> npt.NDArray[np.int64]:
    """Return, for each life, the images from the drop, after ``quiet`` rounds, to the alarm.

    Lives with an alarm before the drop are left out, and so are those without one in `MOST_ROUNDS`.
    """
    random, test = np.random.default_rng(bench.seed), DropTest(bench.alpha, bench.tolerance, bench.lives)
    early = np.zeros(bench.lives, dtype=bool)
    for _ in range(quiet):
        _round(test, bench, random, bench.noise, 0.0)
        early |= test.alarm
    found = np.zeros(bench.lives, dtype=np.int64)
    for step in range(1, MOST_ROUNDS + 1):
        _round(test, bench, random, bench.noise, bench.drop)
        found[(found == 0) & test.alarm] = step * bench.sample
        if found.all():
            break
    return found[~early & (found > 0)]


def fixed_subset(bench: DropBench, *, paired: bool) -> int:
    """Return how many images a fixed subset needs; ``paired`` if it compares answers image by image."""
    after = bench.accuracy - bench.drop
    if paired:
        quiet, dropped = bench.noise + bench.tolerance, bench.noise + bench.drop
    else:
        quiet = 2 * bench.accuracy * (1 - bench.accuracy)
        dropped = bench.accuracy * (1 - bench.accuracy) + after * (1 - after)
    alarm, power = norm.ppf(1 - bench.alpha / bench.rounds), norm.ppf(POWER)
    return ceil(((alarm * sqrt(quiet) + power * sqrt(dropped)) / (bench.drop - bench.tolerance)) ** 2)


def _round(test: DropTest, bench: DropBench, random: np.random.Generator, noise: float, drop: float) -> None:
    lost, gained = noise / 2 + drop, noise / 2
    counts = random.multinomial(bench.sample, [lost, gained, 1 - lost - gained], size=bench.lives)
    test.start_round()
    test.add(counts[:, 0], counts[:, 1], bench.sample)
