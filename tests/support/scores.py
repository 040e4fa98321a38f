"""Synthetic scores for tests of the scoreboard."""

from typing import Any

from lethe.experiments.bench.scores import Score

__all__ = ["score"]


def score(**changes: Any) -> Score:
    whole = Score(
        scenario="abrupt",
        learner="ridge",
        seed=0,
        retains="statistics",
        acc=0.9,
        probes={"mnist": 0.95, "fashion-mnist": 0.85},
        bwt=-0.01,
        wc_acc=0.88,
        anytime_accuracy=0.91,
        below_joint=None,
        samples_per_second=1000.0,
        state_bytes=2**20,
        boundaries=1,
        found=1,
        false_alarms=0,
        offered=1200,
        evaluate_every=5000,
        probe_subset=1000,
    )
    return whole.model_copy(update=changes)
