"""Every included scenario, through a broker to run.json: each record is accounted for."""

import multiprocessing
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from itertools import groupby
from pathlib import Path

import pytest

from lethe.observability.result import RunResult
from lethe.runtime.run import run_service
from lethe.settings import EvaluationSettings, LearnerSettings, RunSettings, ServeSettings, Settings
from lethe.wire import Layout
from lethe_producers.malformed import kinds_of
from lethe_producers.order import Order
from lethe_producers.scenario import Scenario, load_scenario, shipped_scenarios
from tests.support.brokers import StreamBroker
from tests.support.scenarios import send_all, write_probes

pytestmark = [pytest.mark.needs("datasets")]

SAMPLES = 150
"""Records of each segment,"""
POISONED = 600
"""and of a scenario with malformed records: enough for every reason to occur."""
PARTITIONS = 4
IMAGES = 100
"""Of each probe."""


@pytest.fixture(scope="module")
def lethe() -> Iterator[Executor]:
    """A process in which services run one after the other: torch is imported once."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        yield process


@pytest.mark.parametrize("scenario", shipped_scenarios(), ids=lambda scenario: scenario.name)
def test_every_record_of_a_scenario_is_accounted_for(
    broker: StreamBroker, lethe: Executor, topic: str, scenario: Scenario, tmp_path: Path
) -> None:
    malformed = any(segment.malformed for segment in scenario.segments)
    order = Order(scenario, seed=0, samples=POISONED if malformed else SAMPLES)
    settings = Settings(
        stream=send_all(broker, topic, order, PARTITIONS),
        evaluation=EvaluationSettings(probes=write_probes(scenario, tmp_path / "probes", IMAGES)),
        sample=scenario.layout,
        learner=LearnerSettings(name="finetune", device="cpu", threads=1),
        serve=ServeSettings(port=0),
        run=RunSettings(report=tmp_path / "report"),
    )
    lethe.submit(run_service, settings).result(timeout=200)
    result = RunResult.read(tmp_path / "report" / "run.json")

    faults = Counter(str(fault) for index in range(len(order)) if (fault := order.at(index).fault))
    assert result.samples.received == len(order)
    assert (result.samples.lost, result.samples.resident) == (0, 0)
    assert result.samples.learned + result.samples.dead_lettered == result.samples.received
    assert result.samples.discarded == result.samples.learned
    assert result.samples.dead_lettered == faults.total()
    assert result.dead_letters == faults
    visits = [subject for subject, _ in groupby(segment.subject for segment in scenario.segments)]
    assert result.segments == visits
    assert len(result.boundaries.delays) == len(visits) - 1
    assert result.probes == [segment.subject for segment in scenario.subjects]
    assert len(result.R) == len(visits) + 1


def test_the_poisoned_scenario_has_every_kind_of_malformed_record() -> None:
    order = Order(load_scenario("poisoned"), seed=0, samples=POISONED)
    assert {order.at(index).fault for index in range(len(order))} == {None, *kinds_of(Layout())}
