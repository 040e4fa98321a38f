"""Every scenario that is shipped, through a broker to run.json: no record of it is unaccounted for."""

import multiprocessing
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from producers.broker import Broker
from producers.datasets import default_root
from producers.order import Order
from producers.probes import probes_of
from producers.publisher import Publisher
from producers.records import Records
from producers.scenario import Scenario, load_scenario, shipped_scenarios
from service.compose import run_service
from service.probeset import save_probe
from service.result import RunResult
from service.settings import EvaluationSettings, LearnerSettings, RunSettings, ServeSettings, Settings
from service.stream.embedded import EmbeddedBroker
from service.stream.settings import StreamSettings
from service.wire import Reason
from tests.brokers import StreamBroker, of_embedded
from tests.streams import settings_of

pytestmark = [pytest.mark.needs("datasets"), pytest.mark.needs("embedded")]

SAMPLES = 150
"""Records of each segment,"""
POISONED = 500
"""and where some are malformed: as many as it takes for every reason to come up."""
PARTITIONS = 4
IMAGES = 100
"""Of each probe."""


@pytest.fixture(scope="module")
def lethe() -> Iterator[Executor]:
    """A process in which services run one after the other: torch is imported once."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        yield process


@pytest.fixture(scope="module")
def broker() -> Iterator[StreamBroker]:
    with EmbeddedBroker() as embedded:
        yield of_embedded(embedded)


def sent(broker: StreamBroker, topic: str, order: Order) -> StreamSettings:
    """Send a stream, and return how a service reads it to its end."""
    for name, partitions in ((topic, PARTITIONS), (f"{topic}.dead-letters", 1)):
        broker.create_topic(name, partitions)  # over the wire, the embedded broker creates none
    records = Records(order, default_root())
    with Publisher(Broker(broker.bootstrap_servers, broker.api_version), topic) as publisher:
        for index in range(len(records)):
            publisher.send(records.at(index), index % PARTITIONS)
        publisher.flush()
    return settings_of(broker, topic, stop_after=len(records))


def probes(scenario: Scenario, folder: Path) -> EvaluationSettings:
    """The scenario's held-out sets, cut short."""
    for place, probe in enumerate(probes_of(scenario, default_root())):
        save_probe(replace(probe, x_NCHW=probe.x_NCHW[:IMAGES], y_N=probe.y_N[:IMAGES]), folder, place)
    return EvaluationSettings(probes=folder)


@pytest.mark.parametrize("scenario", shipped_scenarios(), ids=lambda scenario: scenario.name)
def test_every_record_of_a_scenario_is_accounted_for(
    broker: StreamBroker, lethe: Executor, topic: str, scenario: Scenario, tmp_path: Path
) -> None:
    malformed = any(segment.malformed for segment in scenario.segments)
    order = Order(scenario, seed=0, samples=POISONED if malformed else SAMPLES)
    settings = Settings(
        stream=sent(broker, topic, order),
        evaluation=probes(scenario, tmp_path / "probes"),
        learner=LearnerSettings(name="finetune", device="cpu", threads=1),
        serve=ServeSettings(port=0),
        run=RunSettings(report=tmp_path / "report"),
    )
    lethe.submit(run_service, settings).result(timeout=60)
    result = RunResult.read(tmp_path / "report" / "run.json")

    faults = Counter(str(fault) for index in range(len(order)) if (fault := order.at(index).fault))
    assert result.samples.received == len(order)
    assert (result.samples.lost, result.samples.resident) == (0, 0)
    assert result.samples.learned + result.samples.dead_lettered == result.samples.received
    assert result.samples.discarded == result.samples.learned
    assert result.samples.dead_lettered == faults.total()
    assert result.dead_letters == faults
    assert result.segments == [segment.subject for segment in scenario.segments]
    assert result.probes == [segment.subject for segment in scenario.subjects]
    assert len(result.R) == len(scenario.segments) + 1


def test_the_poisoned_scenario_is_malformed_in_every_way_there_is() -> None:
    order = Order(load_scenario("poisoned"), seed=0, samples=POISONED)
    assert {order.at(index).fault for index in range(len(order))} == {None, *Reason}
