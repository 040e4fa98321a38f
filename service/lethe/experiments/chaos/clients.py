"""Other clients of the cluster: a transactional producer, and a foreign member of a service's group."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any, Final

from kafka import KafkaConsumer
from kafka.errors import KafkaError

from lethe.experiments.chaos.faults import Piece
from lethe.stream.admin import open_producer
from lethe.stream.broker_errors import kafka_errors
from lethe.stream.connection import Cluster, open_client
from lethe.stream.kafka_patches import close_producer
from lethe.stream.settings import StreamSettings

__all__ = ["foreign_group_member", "subscribe", "write"]

STAY_SECONDS: Final = 1.5
"""Time that the foreign member polls before it leaves, and stays away."""
ACKNOWLEDGED_SECONDS: Final = 60.0


def write(stream: StreamSettings, pieces: Iterable[Piece], partitions: int, transactions: bool) -> int:
    """Write ``pieces`` to the partitions in turn, and return the number of readable records.

    With ``transactions``, each piece is written in a transaction. Raises BrokerUnavailable.
    """
    count = 0
    with _producer(stream, transactions) as producer:
        for piece in pieces:
            if transactions:
                producer.begin_transaction()
            sent = [
                producer.send(
                    stream.topic, record.value, record.key, list(record.headers), (count + nth) % partitions
                )
                for nth, record in enumerate(piece.records)
            ]
            for future in sent:
                future.get(timeout=ACKNOWLEDGED_SECONDS)
            if transactions and not piece.committed:
                producer.abort_transaction()
                continue
            if transactions:
                producer.commit_transaction()
            count += len(sent)
    return count


@contextmanager
def _producer(stream: StreamSettings, transactions: bool) -> Iterator[Any]:
    more = {"transactional_id": f"{stream.topic}-writer"} if transactions else {}
    with kafka_errors(stream):
        producer = open_producer(stream, ACKNOWLEDGED_SECONDS, linger_ms=5, **more)
        try:
            if transactions:
                producer.init_transactions()
            yield producer
        finally:
            close_producer(producer, 1)


@contextmanager
def foreign_group_member(stream: StreamSettings) -> Iterator[None]:
    """Run a consumer that repeatedly joins the group of ``stream``, commits and leaves."""
    done = Event()
    with ThreadPoolExecutor(1, "lethe-foreign-member") as thread:
        future = thread.submit(_join_and_leave, stream, done)
        try:
            yield
        finally:
            done.set()
            future.result()  # raises what the thread raised


def _join_and_leave(stream: StreamSettings, done: Event) -> None:
    while not done.is_set():
        consumer = open_client(
            KafkaConsumer,
            **Cluster.of(stream).options,
            group_id=stream.group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=6000,
            heartbeat_interval_ms=500,
        )
        try:
            subscribe(consumer, stream.topic)
            for _ in range(int(STAY_SECONDS / 0.1)):
                consumer.poll(timeout_ms=100)
                if done.is_set():
                    break
            _commit(consumer)
        finally:
            consumer.close(autocommit=False, timeout_ms=500)
        done.wait(STAY_SECONDS)


def subscribe(consumer: KafkaConsumer, topic: str) -> None:
    """Subscribe ``consumer`` to ``topic``, with the topic's partitions known before it joins its group.

    If kafka-python learns the partitions after the join, it joins once more; if that takes longer than
    one poll, the consumer waits for an assignment forever.
    """
    consumer.subscribe([topic])
    consumer.topics()  # fetches the metadata


def _commit(consumer: Any) -> None:
    """Commit; during a rebalance the commit fails and is left to the next round."""
    try:
        consumer.commit(timeout_ms=2000)
    except KafkaError:
        return
