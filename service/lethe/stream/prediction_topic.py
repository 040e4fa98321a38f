"""The topic of predictions: each is written once, in the order of its partition's records.

They are written in transactions, one after the other. After a restart records are learned again, and their
predictions may be in the topic already. The checkpoint says where the topic ended then; what this service has
committed since is read back from there, and is not written again. The same happens whenever the connection
was lost before a commit was acknowledged. Writes that a killed service had under way cannot appear
afterwards: with a new producer of the same transactional id the broker rejects those of the old one.
"""

import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from lethe.errors import BrokerUnavailable, InvalidSetting, PredictionsRejected
from lethe.stream.admin import ensure_topic, open_producer
from lethe.stream.broker_errors import kafka_errors
from lethe.stream.consumer import KafkaSource
from lethe.stream.kafka_patches import begin_commit, close_producer
from lethe.stream.settings import StreamSettings
from lethe.stream.source import Record

__all__ = ["Outgoing", "PredictionTopic"]

ACKNOWLEDGED_SECONDS: Final = 5.0
"""Timeout for the acknowledgement of a transaction; beyond it the broker counts as unavailable."""
BETWEEN_SECONDS: Final = 0.1
"""From the beginning of one transaction to that of the next, unless all predictions have to be written."""
STEP_SECONDS: Final = 0.02
"""How often an error is looked for while a transaction is being committed."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The prediction for the record at ``offset`` of ``partition`` of the topic that is learned from.

    ``topic_id`` is the broker's id of that topic, if it has one.
    """

    topic_id: str | None
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class _Transaction:
    """A transaction that is being committed."""

    sent: list[tuple[Outgoing, Any]]
    """Each prediction with the future of its write."""
    result: Any
    overdue: float
    """When it should be committed, on the monotonic clock."""


class PredictionTopic:
    """Writes predictions to topic ``stream.predictions_topic``, which is created if it is missing.

    The predictions of a partition's records are in one partition, in the order of the records, with headers
    that name the record and the consumer group of the service. The transactional id is made of the group and
    the rank, so that no two services may have the same. ``since`` is the `snapshot` in the checkpoint
    that the run continues from.
    """

    def __init__(self, stream: StreamSettings, since: Mapping[str, Any] | None = None) -> None:
        self._stream, self._name = stream, stream.predictions_topic
        self._own = stream.model_copy(
            update={
                "topic": self._name,
                "rank": 0,
                "world": 1,
                "accept_loss": True,
                "isolation": "read_committed",
            }
        )
        self._partitions = 1
        """Number of partitions of that topic, as far as it is known."""
        self._id: str | None = None if since is None else since["topic_id"]
        self._ends: dict[int, int] | None = None
        """By partition of the topic of predictions: all of ours before this offset are accounted for."""
        if since is not None:
            self._ends = {int(partition): offset for partition, offset in since["ends"].items()}
        self._begins = self._ends
        """Where they were last read back from: nothing of ours beyond the checkpoint is before it."""
        self._count = 1
        self._producer: Any = None
        self._waiting: deque[Outgoing] = deque()
        """Those that are in no transaction yet."""
        self._transaction: _Transaction | None = None
        self._next_at = 0.0
        self._written: dict[tuple[str | None, int], int] = {}
        """By id and partition of the topic that is learned from: those before this offset are written."""
        self._rejected = False
        self.failure = ""
        """Why the topic could not be written the last time; empty if it could."""
        self.bytes = 0
        """Of the values that are not committed."""
        self.acknowledged = 0
        """Predictions that were committed, or that were found in the topic."""

    @property
    def begun(self) -> bool:
        """Whether it is known where the predictions of later records begin."""
        return self._ends is not None

    def create_for(self, partitions: int) -> None:
        """Note how many partitions the topic has that is learned from: the topic is created with as many."""
        self._partitions = partitions

    def add(self, prediction: Outgoing) -> None:
        """Queue a prediction, unless it is written; those of a partition come in the order of its records."""
        if not self._is_written(prediction):
            self._waiting.append(prediction)
            self.bytes += len(prediction.value)

    def flush(self, seconds: float, most_bytes: int = 0) -> bool:
        """Write, for about ``seconds``, until at most ``most_bytes`` are not committed; return if so.

        Where it is not `begun`, it begins. Returns false, with the reason as `failure`, if the broker cannot
        be reached. Raises PredictionsRejected if it rejects a prediction for good, and returns false after
        that.
        """
        if self._rejected:
            return False
        deadline = time.monotonic() + seconds
        try:
            with self._errors():
                while True:
                    if not self.begun or self._waiting:
                        self._open()
                    if self._transaction is None and self._is_due(most_bytes):
                        self._begin()
                    enough = self.bytes <= most_bytes
                    if self._transaction is None or not self._is_committed(0.0 if enough else deadline):
                        break
        except BrokerUnavailable as error:
            self.failure = str(error)
            self._disconnect()
            return False
        return self.bytes <= most_bytes

    def snapshot(self, offsets: Mapping[int, int], topic_id: str | None) -> dict[str, Any] | None:
        """Return where the predictions of the records from ``offsets`` on begin, for a checkpoint.

        Everything queued before must be committed. After a restart, the predictions of records that are not
        learned again yet are in the topic already, behind where they were read back from.
        """
        if self._ends is None:
            return None
        if all(self._written.get((topic_id, p), 0) <= offset for p, offset in offsets.items()):
            self._begins = dict(self._ends)
        begins = self._begins or {}
        return {"topic_id": self._id, "ends": {str(p): begin for p, begin in sorted(begins.items())}}

    def close(self) -> None:
        """Close the connection; what is not acknowledged may be lost, and no checkpoint is past it."""
        self._disconnect()

    def _is_due(self, most_bytes: int) -> bool:
        """Return whether to begin a transaction."""
        hurried = self.bytes > most_bytes or time.monotonic() >= self._next_at
        return bool(self._waiting) and hurried

    def _begin(self) -> None:
        """Begin a transaction with all that waits, and begin to commit it."""
        now = time.monotonic()
        self._producer.begin_transaction()
        sent = [(prediction, self._send(prediction)) for prediction in self._waiting]
        self._waiting.clear()
        self._transaction = _Transaction(sent, begin_commit(self._producer), now + ACKNOWLEDGED_SECONDS)
        self._next_at = now + BETWEEN_SECONDS

    def _send(self, prediction: Outgoing) -> Any:
        return self._producer.send(
            self._name,
            key=prediction.key,
            value=prediction.value,
            partition=prediction.partition % self._count,
            headers=[(name, text.encode()) for name, text in self._headers(prediction)],
        )

    def _is_committed(self, deadline: float) -> bool:
        """Wait for the transaction until ``deadline``; return whether it is committed. Raises its errors."""
        transaction = self._transaction
        if transaction is None:
            return True
        while not transaction.result.is_done:
            now = time.monotonic()
            for _, future in transaction.sent:
                if future.is_done and future.exception is not None:
                    raise future.exception
            if now >= transaction.overdue:
                self.failure = f"topic {self._name} does not acknowledge a transaction"
                raise BrokerUnavailable(self.failure)
            if now >= deadline:
                return False
            transaction.result.wait(timeout_ms=STEP_SECONDS * 1000)
        transaction.result.wait()
        self._transaction, self.failure = None, ""
        ends = self._ends = self._ends or {}
        for prediction, future in transaction.sent:
            written = future.get(timeout=0)
            ends[written.partition] = written.offset + 1
            self._note(prediction.topic_id, prediction.partition, prediction.offset)
            self._settle(prediction)
        return True

    def _settle(self, prediction: Outgoing) -> None:
        self.bytes -= len(prediction.value)
        self.acknowledged += 1

    def _headers(self, prediction: Outgoing) -> Iterator[tuple[str, str]]:
        yield "content-type", "application/json"
        yield "lethe-group", self._stream.group
        yield "lethe-topic", self._stream.topic
        if prediction.topic_id is not None:
            yield "lethe-topic-id", prediction.topic_id
        yield "lethe-partition", str(prediction.partition)
        yield "lethe-offset", str(prediction.offset)
        yield from prediction.headers

    def _open(self) -> None:
        if self._producer is not None:
            return
        ensure_topic(self._own, self._name, self._partitions)
        producer = open_producer(
            self._own,
            ACKNOWLEDGED_SECONDS,
            linger_ms=5,
            transactional_id=f"lethe-{self._stream.group}-{self._name}-{self._stream.rank}",
        )
        try:
            producer.init_transactions()  # from here on nothing of an earlier producer is written
            self._read_back()
        except BaseException:
            close_producer(producer, 1)
            raise
        self._producer, self.failure = producer, ""

    def _read_back(self) -> None:
        """Find out which predictions are written, and drop those that wait although they are."""
        everything = self._own.model_copy(update={"isolation": "read_uncommitted"})
        with closing(KafkaSource(everything)) as source:
            ends = dict(source.ends())  # also behind a transaction of another producer that is still open
        with closing(KafkaSource(self._own)) as source:
            if self._ends is not None and self._id in {None, source.topic_id}:
                begins: Mapping[int, int] = self._ends
            else:
                begins = source.starts() if self._ends is not None else ends  # a new topic, or a new run
            reached = dict(source.seek(begins))
            patience = time.monotonic() + ACKNOWLEDGED_SECONDS
            while any(reached[p] < end for p, end in ends.items()):
                for record in source.poll(1.0, 500, ()):
                    self._recognise(record)
                if source.reached() != reached:
                    patience = time.monotonic() + ACKNOWLEDGED_SECONDS
                elif time.monotonic() > patience:
                    raise BrokerUnavailable(f"topic {self._name} waits for another producer's transaction")
                reached |= source.reached()
            self._count, self._id = len(source.partitions), source.topic_id
            self._begins, self._ends = dict(begins), ends
        for prediction in list(filter(self._is_written, self._waiting)):
            self._waiting.remove(prediction)
            self._settle(prediction)

    def _recognise(self, record: Record) -> None:
        """Note that the prediction in ``record`` is written, if it is one of this service."""
        headers: Mapping[str, bytes | None] = dict(record.headers)
        ours = {"lethe-group": self._stream.group, "lethe-topic": self._stream.topic}
        if any(headers.get(name) != text.encode() for name, text in ours.items()):
            return
        partition, offset = (headers.get(name) or b"" for name in ("lethe-partition", "lethe-offset"))
        if partition.isdigit() and offset.isdigit():
            topic_id = headers.get("lethe-topic-id")
            self._note(
                None if topic_id is None else topic_id.decode(errors="replace"), int(partition), int(offset)
            )

    def _note(self, topic_id: str | None, partition: int, offset: int) -> None:
        place = topic_id, partition
        self._written[place] = max(self._written.get(place, 0), offset + 1)

    def _is_written(self, prediction: Outgoing) -> bool:
        return prediction.offset < self._written.get((prediction.topic_id, prediction.partition), 0)

    def _disconnect(self) -> None:
        if self._transaction is not None:
            self._waiting.extendleft(prediction for prediction, _ in reversed(self._transaction.sent))
            self._transaction = None
        if self._producer is not None:
            close_producer(self._producer, 1)
            self._producer = None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with kafka_errors(self._own, self._name):
                yield
        except InvalidSetting as rejected:
            self._rejected = True
            self._disconnect()
            raise PredictionsRejected(
                f"topic {self._name} rejects a prediction ({rejected}); the service stops, and a restart "
                "learns its record again"
            ) from rejected
