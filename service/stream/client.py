"""Makes kafka-python's clients, without two habits that would end a service that runs for ever.

A client that cannot reach its cluster leaves a thread and some sockets behind, once for every
attempt. And a consumer gives up at a header whose name is not UTF-8, though Kafka takes any bytes:
it reads neither the batch that holds it nor anything after it, and its next poll never returns.
Here such a name is read with replacement characters and then ignored like every unknown one.
"""

from collections.abc import Callable
from typing import Any, Final

from kafka.errors import CorruptRecordError
from kafka.net.compat import KafkaNetClient
from kafka.record.default_records import DefaultRecordBatch

__all__ = ["open_client"]

_strict: Final = DefaultRecordBatch.__next__


def open_client(kind: Callable[..., Any], **options: Any) -> Any:
    """Return ``kind(**options)``, a consumer, producer or admin client of kafka-python.

    Raises what it raises, after closing whatever it had opened.
    """
    DefaultRecordBatch.__next__ = _next
    opened: list[Any] = []

    def remember(**config: Any) -> Any:
        opened.append(KafkaNetClient(**config))
        return opened[-1]

    try:
        return kind(**options, kafka_client=remember)
    except BaseException:
        for client in opened:
            client.close()
        raise


def _next(batch: Any) -> Any:
    try:
        return _strict(batch)
    except CorruptRecordError as error:
        if not isinstance(error.__context__, UnicodeDecodeError):
            raise
    strict = batch._buffer
    batch._buffer = _Buffer(strict)
    try:
        return _strict(batch)  # the same record again: a failure leaves the batch where it was
    finally:
        batch._buffer = strict


class _Buffer(bytearray):
    """The bytes of a batch; a part of it knows how to be decoded whatever it holds."""

    def __getitem__(self, where: Any) -> Any:
        part = super().__getitem__(where)
        return _Name(part) if isinstance(part, bytearray) else part


class _Name(bytearray):
    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, errors)
