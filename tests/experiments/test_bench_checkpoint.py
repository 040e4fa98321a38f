"""The checkpoint benchmark: median and quartiles over pairs of turns, and its stream."""

import pytest
import torch

from lethe.experiments.bench.checkpoint import CheckpointBench, CheckpointCost, bench_checkpoint
from lethe.experiments.bench.synthetic_images import SUBJECTS, subject_images
from lethe.learners.analytic.experts import Experts
from lethe.learners.base import LearnerContext
from lethe.wire import Layout


def test_the_cost_is_the_median_of_the_pairs_over_the_cadence_and_its_spread_is_reported() -> None:
    cost = CheckpointCost(
        without=[10.0, 11.0, 10.0, 30.0, 10.0],
        with_one=[10.3, 11.6, 10.6, 31.2, 9.7],
        cpu=[0.2, 0.3, 0.3, 0.3, 0.9],
        every_seconds=30.0,
    )
    assert cost.seconds_lost == pytest.approx(0.6)
    assert cost.quartiles == pytest.approx((0.3, 0.6))
    assert cost.ratio == pytest.approx(0.02)
    assert cost.cpu_ratio == pytest.approx(0.01)


def test_one_turn_has_no_spread() -> None:
    assert CheckpointCost([1.0], [1.5], [0.1]).quartiles == (0.5, 0.5)


def test_every_turn_learns_with_a_checkpoint_and_without() -> None:
    costs = list(bench_checkpoint(CheckpointBench("finetune", samples=128, turns=2)))
    assert len(costs) == 2
    assert len(costs[-1].without) == len(costs[-1].with_one) == len(costs[-1].cpu) == 2
    assert costs[-1].size > 1_000_000


def test_the_stream_of_the_benchmarks_opens_as_many_regimes_as_there_can_be() -> None:
    learner = Experts(LearnerContext(Layout(), options={"waves": 0}))
    x_NCHW, y_N = subject_images(Layout(), SUBJECTS * 512, seed=0)
    for batch in range(SUBJECTS):
        assert learner.regimes == max(1, batch)
        rows = slice(512 * batch, 512 * (batch + 1))
        learner.learn(torch.from_numpy(x_NCHW[rows]), torch.from_numpy(y_N[rows]))
    assert learner.regimes == SUBJECTS
