"""Boundaries of every scenario that ships, on its own images: found in time, and nowhere else."""

from itertools import pairwise
from typing import Final

import pytest

from lethe.experiments.bench.offline_run import OfflineRun, run_offline
from lethe_producers.scenario import Scenario, load_scenario, shipped_scenarios
from tests.benchmarks.boundaries import SIZES, in_turns, stream_of, verdict

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.needs("datasets")]

SHORT: Final = 1100
"""Samples of a segment."""
MLP: Final = {"backbone": "mlp"}
OF_IMAGES: Final = [scenario for scenario in shipped_scenarios() if scenario.layout.features is None]
"""In the other one the same vectors get other labels, which shows only once a learner has learned them."""


@pytest.mark.parametrize("scenario", OF_IMAGES, ids=lambda scenario: scenario.name)
def test_every_switch_is_found_in_time_and_nothing_else(scenario: Scenario) -> None:
    result = run_offline(OfflineRun("finetune", scenario, samples=SHORT, options=MLP))
    verdict = result.verdict
    assert len(verdict.delays) == sum(a.subject != b.subject for a, b in pairwise(scenario.segments))
    assert verdict.false_alarms == 0
    for delay, ramp in zip(verdict.delays, result.ramps or [(0, 0)] * len(verdict.delays), strict=True):
        assert delay is not None
        assert delay <= 500 + ramp[1] - ramp[0]
    boundaries = result.run.boundaries
    assert (boundaries.recognised, boundaries.mistaken) == (boundaries.returns, 0)


@pytest.mark.long
def test_switches_of_labels_alone_are_found_by_the_errors_of_the_learner() -> None:
    result = run_offline(OfflineRun("finetune", load_scenario("loans")))
    assert result.verdict.false_alarms == 0
    assert [delay is not None and delay <= 500 for delay in result.verdict.delays] == [True] * 4
    assert {boundary.signal for boundary in result.run.boundaries.detected} == {"error"}


@pytest.mark.parametrize("scenario", OF_IMAGES, ids=lambda scenario: scenario.name)
def test_switches_of_short_segments_are_found_in_the_images_for_any_batch_size(
    scenario: Scenario,
) -> None:
    stream = stream_of(in_turns(scenario, SHORT, visits=10), seed=0)
    for size in SIZES:
        result = verdict(stream, size)
        assert result.missed <= int(size == 1024), "two switches in one batch are reported as one"
        assert result.false_alarms == 0, size


@pytest.mark.parametrize("size", [1, 64, 512])
@pytest.mark.parametrize("lengths", [(4000, 2000, 4000, 4000, 4000, 4000), (4000,) * 6, (3000, 600, 4000)])
def test_one_short_segment_costs_no_later_switch(lengths: tuple[int, ...], size: int) -> None:
    recurring = load_scenario("recurring")
    segments = [
        recurring.segments[visit % 2].model_copy(update={"count": count})
        for visit, count in enumerate(lengths)
    ]
    result = verdict(stream_of(recurring.model_copy(update={"segments": tuple(segments)}), seed=0), size)
    assert (result.missed, result.false_alarms) == (0, 0)
    assert max(delay for delay in result.delays if delay is not None) <= 128 + size


@pytest.mark.long
@pytest.mark.parametrize("scenario", OF_IMAGES, ids=lambda scenario: scenario.name)
@pytest.mark.parametrize(
    ("learner", "batch", "options"),
    [
        ("finetune", 1, MLP),
        ("finetune", 8, MLP),
        ("finetune", 64, MLP),
        ("finetune", 512, MLP),
        ("ridge", 64, {"waves": 500}),
        ("ridge", 512, {"waves": 500}),
        ("experts", 8, {"waves": 200}),
        ("experts", 512, {"waves": 200}),
    ],
)
def test_switches_of_short_segments_are_found_while_a_learner_learns(
    learner: str, batch: int, options: dict[str, str | int], scenario: Scenario
) -> None:
    cut = in_turns(scenario, SHORT, visits=12)
    result = run_offline(OfflineRun(learner, cut, batch=batch, options=options, evaluate_every=10**9))
    assert result.verdict.missed == 0
    assert result.verdict.false_alarms == 0
    assert result.run.boundaries.mistaken == 0


@pytest.mark.long
@pytest.mark.parametrize(("learner", "options"), [("finetune", MLP), ("ncm", {}), ("slda", {})])
def test_a_stream_that_never_changes_raises_no_alarm(learner: str, options: dict[str, str | int]) -> None:
    stationary = load_scenario("stationary")
    result = run_offline(OfflineRun(learner, stationary, options=options, evaluate_every=10**9))
    assert result.run.samples.learned == 120_000
    assert result.run.boundaries.detected == []
