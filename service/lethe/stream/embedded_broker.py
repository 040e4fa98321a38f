"""Runs a broker inside this process, for laptops, demos and tests.

It is librdkafka's mock cluster, which has real sockets, the real protocol and records in memory, from the
library that the package confluent-kafka bundles (extra ``embedded``).
"""

import ctypes
from collections.abc import Callable
from importlib import import_module
from types import TracebackType
from typing import Any, Final, Self

from lethe.errors import InvalidSetting

__all__ = ["API_VERSION", "PARTITION_BYTES", "PARTITION_MESSAGE_SETS", "EmbeddedBroker"]

API_VERSION: Final = (2, 1)
"""Protocol version for kafka-python: the broker rejects some requests of later versions."""

PARTITION_BYTES: Final = 5 * 1024 * 1024
"""A partition that holds more bytes than this silently drops its oldest message sets."""

PARTITION_MESSAGE_SETS: Final = 100_000
"""A partition that holds more message sets than this silently drops its oldest ones."""

PRODUCER: Final = 0
EVERY_BROKER: Final = -1
ERROR_BYTES: Final = 512

Handle = ctypes.c_void_p
Code = ctypes.c_int
Text = ctypes.Array[ctypes.c_char]


class EmbeddedBroker:
    """A mock broker on a free port of 127.0.0.1, from construction until `close`.

    It does not implement CreateTopics and DeleteRecords: use `create_topic` and `delete_records`. A topic
    that was not created gets four partitions on first use. A partition holds at most `PARTITION_BYTES` and
    `PARTITION_MESSAGE_SETS`: a producer must not run further ahead of its consumers.

    Raises:
        InvalidSetting: confluent-kafka is missing, or its librdkafka is too old.
    """

    def __init__(self) -> None:
        self._rdkafka = _load()
        self._client = self._new_client()
        self._cluster: int | None = self._rdkafka.cluster_new(self._client, 1)
        if not self._cluster:
            self._rdkafka.destroy(self._client)
            raise OSError("the embedded broker could not open a socket on 127.0.0.1")
        self._rdkafka.set_join_delay(self._cluster, 0)
        self._bootstrap_servers = self._rdkafka.bootstraps(self._cluster).decode()

    @property
    def bootstrap_servers(self) -> str:
        """``127.0.0.1:PORT``, the same for the broker's whole life."""
        return self._bootstrap_servers

    def create_topic(self, name: str, partitions: int) -> None:
        """Create a topic.

        Raises:
            ValueError: the topic exists, or its name or number of partitions is not allowed.
        """
        if partitions < 1:
            raise ValueError(f"topic {name}: partitions must be at least 1, not {partitions}")
        code = self._rdkafka.topic_create(self._open(), name.encode(), partitions, 1)
        self._check(code, f"topic {name}")

    def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        """Move the partition's start so that no offset below ``before_offset`` can be read.

        Raises:
            ValueError: there is no such topic, partition or offset.
        """
        code = self._rdkafka.delete_records(self._open(), topic.encode(), partition, before_offset)
        self._check(code, f"topic {topic}, partition {partition}, offset {before_offset}")

    def down(self) -> None:
        """Close every connection and reject new ones; records are kept."""
        self._check(self._rdkafka.set_down(self._open(), EVERY_BROKER), "embedded broker")

    def up(self) -> None:
        """Accept connections again after `down`."""
        self._check(self._rdkafka.set_up(self._open(), EVERY_BROKER), "embedded broker")

    def close(self) -> None:
        """Stop the broker and discard its records; can be called twice."""
        if self._cluster is None:
            return
        cluster, self._cluster = self._cluster, None
        self._rdkafka.cluster_destroy(cluster)
        self._rdkafka.destroy(self._client)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _new_client(self) -> int:
        """Return a client, which librdkafka needs for a mock cluster; it connects to nothing."""
        conf = self._rdkafka.conf_new()
        self._rdkafka.conf_set_log_cb(conf, None)  # by default it logs to stderr
        error = ctypes.create_string_buffer(ERROR_BYTES)
        client = self._rdkafka.new(PRODUCER, conf, error, ERROR_BYTES)
        if not client:
            raise OSError(f"the embedded broker could not start: {error.value.decode()}")
        return client

    def _open(self) -> int:
        if self._cluster is None:
            raise ValueError("the embedded broker is closed")
        return self._cluster

    def _check(self, code: int, what: str) -> None:
        if code:
            raise ValueError(f"{what}: {self._rdkafka.err2str(code).decode()}")


class _Rdkafka:
    """The functions of librdkafka that are used, with the types of rdkafka_mock.h."""

    def __init__(self, library: ctypes.CDLL) -> None:
        def function(name: str, result: type | None, *arguments: type) -> Callable[..., Any]:
            return ctypes.CFUNCTYPE(result, *arguments)((f"rd_kafka_{name}", library))

        self.conf_new: Callable[[], int] = function("conf_new", Handle)
        self.conf_set_log_cb: Callable[[int, None], None] = function("conf_set_log_cb", None, Handle, Handle)
        self.new: Callable[[int, int, Text, int], int | None] = function(
            "new", Handle, ctypes.c_int, Handle, ctypes.c_char_p, ctypes.c_size_t
        )
        self.destroy: Callable[[int], None] = function("destroy", None, Handle)
        self.err2str: Callable[[int], bytes] = function("err2str", ctypes.c_char_p, Code)
        self.cluster_new: Callable[[int, int], int | None] = function(
            "mock_cluster_new", Handle, Handle, ctypes.c_int
        )
        self.cluster_destroy: Callable[[int], None] = function("mock_cluster_destroy", None, Handle)
        self.bootstraps: Callable[[int], bytes] = function("mock_cluster_bootstraps", ctypes.c_char_p, Handle)
        self.set_join_delay: Callable[[int, int], None] = function(
            "mock_group_initial_rebalance_delay_ms", None, Handle, ctypes.c_int32
        )
        self.topic_create: Callable[[int, bytes, int, int], int] = function(
            "mock_topic_create", Code, Handle, ctypes.c_char_p, ctypes.c_int, ctypes.c_int
        )
        self.delete_records: Callable[[int, bytes, int, int], int] = function(
            "mock_partition_delete_records", Code, Handle, ctypes.c_char_p, ctypes.c_int32, ctypes.c_int64
        )
        self.set_down: Callable[[int, int], int] = function(
            "mock_broker_set_down", Code, Handle, ctypes.c_int32
        )
        self.set_up: Callable[[int, int], int] = function("mock_broker_set_up", Code, Handle, ctypes.c_int32)


def _load() -> _Rdkafka:
    try:
        # Wheels bundle librdkafka under varying file names; the extension is linked to it.
        extension = import_module("confluent_kafka.cimpl").__file__
    except ImportError as missing:
        raise InvalidSetting(
            "the embedded broker needs the package confluent-kafka: pip install 'lethe[embedded]'"
        ) from missing
    try:
        return _Rdkafka(ctypes.CDLL(extension))
    except AttributeError as old:
        raise InvalidSetting(
            f"the embedded broker needs a newer confluent-kafka: pip install -U 'lethe[embedded]' ({old})"
        ) from old
