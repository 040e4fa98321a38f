"""What rounds cost between two readings of rank 0's metrics, and the parts that they are made of."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Final

import numpy as np
import torch
from prometheus_client.parser import text_string_to_metric_families

from lethe.experiments.bench.pipeline import noise_images
from lethe.learners.capabilities import KeepsSums
from lethe.learners.registry import find
from lethe.runtime.factories import create_learner
from lethe.settings import LearnerSettings
from lethe.wire import Layout

__all__ = ["Fit", "RoundCosts", "expected_largest", "fit", "read_costs", "solving_seconds"]

DRAWS: Final = 20_000


@dataclass(frozen=True, slots=True)
class RoundCosts:
    """Totals over some rounds; seconds and samples are of the whole window, or counters at one moment."""

    seconds: float
    samples: int
    rounds: int
    round_seconds: float
    learning_seconds: float
    """Of all ranks."""
    collective_seconds: float
    """Of the rank that waits least in them."""
    collective_bytes: int
    evaluations: int
    evaluation_seconds: float

    def __add__(self, other: "RoundCosts") -> "RoundCosts":
        return self._with(other, 1)

    def __sub__(self, other: "RoundCosts") -> "RoundCosts":
        return self._with(other, -1)

    def _with(self, other: "RoundCosts", sign: int) -> "RoundCosts":
        return RoundCosts(
            self.seconds + sign * other.seconds,
            self.samples + sign * other.samples,
            self.rounds + sign * other.rounds,
            self.round_seconds + sign * other.round_seconds,
            self.learning_seconds + sign * other.learning_seconds,
            self.collective_seconds + sign * other.collective_seconds,
            self.collective_bytes + sign * other.collective_bytes,
            self.evaluations + sign * other.evaluations,
            self.evaluation_seconds + sign * other.evaluation_seconds,
        )


def read_costs(page: str, seconds: float, samples: int) -> RoundCosts:
    """Return the counters of rank 0's metrics, ``page``, at a moment."""
    values = {
        (sample.name.removeprefix("lethe_"), tuple(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    return RoundCosts(
        seconds=seconds,
        samples=samples,
        rounds=int(values["round_duration_seconds_count", ()]),
        round_seconds=values["round_duration_seconds_sum", ()],
        learning_seconds=sum(_of_ranks(values, "rank_learning_seconds_total")),
        collective_seconds=min(_of_ranks(values, "rank_collective_seconds_total")),
        collective_bytes=int(values["collective_bytes_total", ()]),
        evaluations=int(values["evaluation_duration_seconds_count", ()]),
        evaluation_seconds=values["evaluation_duration_seconds_sum", ()],
    )


def _of_ranks(values: Mapping[tuple[str, tuple[tuple[str, str], ...]], float], metric: str) -> list[float]:
    return [value for (name, _), value in values.items() if name == metric]


@dataclass(frozen=True, slots=True)
class Fit:
    """The parts of a round's cost, in seconds, from which other numbers of ranks follow."""

    batch: int
    """Samples of a rank in a round."""
    learning: float
    """Predicting and learning a batch."""
    spread: float
    """Relative standard deviation of that from batch to batch, and from rank to rank."""
    handling: float
    """What rank 0 does for each rank in each round: its note, its receipt, its counts."""
    moved_bytes: float
    """Bytes that are added up over all ranks at once."""
    moved_every: int | None
    """Samples, of all ranks, between two such sums; None for one in each round."""
    local: float
    """Adding up one byte between two ranks of one machine."""
    solving: float
    """Computing what `learn` predicts from, after sums were moved, with the threads of one machine."""
    evaluating: float
    """What rank 0 does alone for an evaluation: a solve; 0 if there are none."""
    predicting: float
    """Predicting all images of an evaluation, which the ranks divide."""
    evaluated_every: int
    """Samples, of all ranks, between two evaluations."""


def fit(learner: str, batch: int, ranks: int, costs: RoundCosts, solving: float | None = None) -> Fit:
    """Return the parts that ``costs`` of so many ranks are made of.

    ``solving`` is the processor time of one solve, by default measured. All ranks are on one machine: rank 0
    solves with the threads of all. The time between two rounds that is neither spent on solves nor on
    evaluations nor on moving tensors is for handling.
    """
    every = _solved_every(learner)
    if solving is None:
        solving = solving_seconds(learner, batch)
    solving /= ranks
    sums = issubclass(find(learner), KeepsSums)
    solves = 0.0 if every is None else costs.samples / every
    moves = solves + costs.evaluations if sums else costs.rounds
    learning = costs.learning_seconds / costs.rounds / ranks
    largest = costs.round_seconds / costs.rounds - (0.0 if sums else costs.collective_seconds / costs.rounds)
    between = costs.seconds - costs.round_seconds - costs.evaluation_seconds - solves * solving
    between -= costs.collective_seconds if sums else 0.0
    evaluation = costs.evaluation_seconds / costs.evaluations if costs.evaluations else 0.0
    return Fit(
        batch=batch,
        learning=learning,
        spread=max(0.0, largest / learning - 1) / expected_largest(ranks),
        handling=max(0.0, between) / costs.rounds / ranks,
        moved_bytes=costs.collective_bytes / moves if moves else 0.0,
        moved_every=every if sums else None,
        local=costs.collective_seconds / costs.collective_bytes if costs.collective_bytes else 0.0,
        solving=solving,
        evaluating=min(evaluation, solving),
        predicting=max(0.0, evaluation - solving) * ranks,
        evaluated_every=find(learner).evaluate_every,
    )


def expected_largest(count: int) -> float:
    """Return the mean of the largest of so many standard normal numbers.

    >>> round(expected_largest(2), 2), round(expected_largest(100), 1)
    (0.56, 2.5)
    """
    if count == 2:
        return 1 / math.sqrt(math.pi)
    numbers = np.random.default_rng(0).standard_normal((DRAWS, count))
    return float(numbers.max(axis=1).mean())


def _solved_every(learner: str) -> int | None:
    """Return the samples between two solves, once they are as rare as they stay; None without any."""
    every = getattr(find(learner).Options(), "refresh_every", None)
    return None if every is None else int(every)


def solving_seconds(learner: str, batch: int) -> float:
    """Return how much longer the first prediction takes after something was learned than the next ones.

    In processor time of one thread, which depends less on what else the machine does. It is 0 for a learner
    that does not solve.
    """
    if _solved_every(learner) is None:
        return 0.0
    layout = Layout()
    settings = LearnerSettings(name=learner, threads=1, device="cpu")
    created = create_learner(settings, layout, batch)
    x_NCHW, y_N = (torch.from_numpy(array) for array in noise_images(layout, batch, 0))
    taken = []
    for _ in range(2):  # after the first batch `learn` solves by itself, after the second it does not
        created.learn(x_NCHW, y_N)
    for _ in range(3):
        began = time.process_time()
        created.predict_proba(x_NCHW[:1])
        taken.append(time.process_time() - began)
    return max(0.0, taken[0] - fmean(taken[1:]))
