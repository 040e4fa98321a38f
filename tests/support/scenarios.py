"""A scenario's records on a broker, its probes, and a tiny scenario."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from lethe.probeset import save_probe
from lethe.stream.connection import Cluster
from lethe.stream.settings import StreamSettings
from lethe_producers.datasets import default_root
from lethe_producers.order import Order
from lethe_producers.probes import probes_of
from lethe_producers.publisher import Publisher
from lethe_producers.records import Records
from lethe_producers.scenario import Scenario, Segment
from tests.support.brokers import StreamBroker
from tests.support.streams import settings_of

__all__ = ["ABRUPT", "send_all", "write_probes"]

ABRUPT: Final = Scenario(
    name="abrupt",
    description="one class of each, and so small probes",
    segments=(
        Segment(subject="mnist", dataset="mnist", classes=(0,)),
        Segment(subject="fashion-mnist", dataset="fashion-mnist", classes=(1,)),
    ),
)


def send_all(broker: StreamBroker, topic: str, order: Order, partitions: int) -> StreamSettings:
    """Send a stream to a new topic, and return how a service reads it to its end."""
    for name, number in ((topic, partitions), (f"{topic}.dead-letters", 1)):
        broker.create_topic(name, number)  # over the wire, the embedded broker creates none
    records = Records(order, default_root())
    with Publisher(Cluster(broker.bootstrap_servers, broker.api_version), topic) as publisher:
        for index in range(len(records)):
            publisher.send(records.at(index), index % partitions)
        publisher.flush()
    return settings_of(broker, topic, stop_after=len(records))


def write_probes(scenario: Scenario, folder: Path, images: int | None) -> Path:
    """Write the first ``images`` of each held-out set of ``scenario`` into ``folder``."""
    for place, probe in enumerate(probes_of(scenario, default_root())):
        save_probe(replace(probe, x_NCHW=probe.x_NCHW[:images], y_N=probe.y_N[:images]), folder, place)
    return folder
