"""Lets kafka-python read past a header whose name is not UTF-8.

Kafka takes any bytes for the name of a header. kafka-python 3.0.12 gives up at one that is not
UTF-8: it reads neither the batch of records that holds it nor anything after it, and its next
poll never returns, so that one such record would end the stream for good. Here its name is read
with replacement characters; like every other name that means nothing, it is then ignored.
"""

from typing import Any, Final

from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecordBatch

__all__ = ["tolerate_any_header_name"]

_strict: Final = DefaultRecordBatch.__next__


def tolerate_any_header_name() -> None:
    """Make every consumer of this process tolerant; may be called again."""
    DefaultRecordBatch.__next__ = _next


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
