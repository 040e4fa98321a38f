"""Boundaries of every scenario that ships, on its own images: found in time, and nowhere else."""

from itertools import pairwise

import pytest

from producers.scenario import Scenario, shipped_scenarios
from service.bench.rehearsal import Rehearsal, rehearse
from service.drift.watch import SETTLED

pytestmark = pytest.mark.usefixtures("one_thread")

SAMPLES = 5 * SETTLED // 2


@pytest.mark.needs("datasets")
@pytest.mark.parametrize("scenario", shipped_scenarios(), ids=lambda scenario: scenario.name)
def test_every_switch_is_found_in_time_and_nothing_else(scenario: Scenario) -> None:
    came = rehearse(Rehearsal("finetune", scenario, samples=SAMPLES, options={"backbone": "mlp"}))
    verdict = came.verdict
    assert len(verdict.delays) == sum(a.subject != b.subject for a, b in pairwise(scenario.segments))
    assert verdict.false_alarms == 0
    for delay, ramp in zip(verdict.delays, came.ramps or [(0, 0)] * len(verdict.delays), strict=True):
        assert delay is not None
        assert delay <= 2000 + ramp[1] - ramp[0]
    told = came.run.boundaries
    assert (told.recognised, told.mistaken) == (told.returns, 0)
