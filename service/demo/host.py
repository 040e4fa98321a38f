"""The embedded broker's purge: it cannot be asked for one over the wire, so its host sees to it."""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Final

from service.errors import BrokerUnavailable
from service.stream.cluster import kafka_errors, open_admin
from service.stream.embedded import EmbeddedBroker
from service.stream.purge import needed_from
from service.stream.settings import StreamSettings

__all__ = ["purging"]

EVERY_SECONDS: Final = 1.0


@contextmanager
def purging(
    broker: EmbeddedBroker, stream: StreamSettings, partitions: int, groups: Sequence[str]
) -> Iterator[None]:
    """Delete, all the while, what none of the consumer ``groups`` needs any more."""
    done = Event()
    with ThreadPoolExecutor(1, "lethe-purge") as thread:
        future = thread.submit(_purge, broker, stream, partitions, groups, done)
        try:
            yield
        finally:
            done.set()
            future.result()  # an error in it is not passed over


def _purge(
    broker: EmbeddedBroker, stream: StreamSettings, partitions: int, groups: Sequence[str], done: Event
) -> None:
    all_of_them = stream.model_copy(update={"group": "", "shared_with": ",".join(groups)})
    purged = dict.fromkeys(range(partitions), 0)
    while not done.wait(EVERY_SECONDS):
        try:
            with open_admin(all_of_them) as admin, kafka_errors(all_of_them):
                needed, _ = needed_from(admin, all_of_them, dict.fromkeys(purged, sys.maxsize))
        except BrokerUnavailable:
            continue  # it is busy with others: there is a next time
        for partition, offset in needed.items():
            if offset > purged[partition]:
                broker.delete_records(stream.topic, partition, offset)
                purged[partition] = offset
