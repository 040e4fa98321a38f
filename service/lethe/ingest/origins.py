"""Where a sample came from: its place in the topic, its key, and those of its headers that go with it."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from lethe.stream.source import Record

__all__ = ["LONGEST", "TRACE_HEADERS", "Origin", "origin_of"]

TRACE_HEADERS: Final = ("traceparent", "tracestate", "ce_id")
"""Headers that identify a record elsewhere: W3C Trace Context, and the id of a CloudEvent."""
LONGEST: Final = 4096
"""Maximum bytes of a key or a header; a longer one is left out."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin of one sample; ``key`` and ``headers`` lack what is longer than `LONGEST`."""

    partition: int
    offset: int
    key: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()


def origin_of(record: Record, headers: Collection[str]) -> Origin:
    """Return the origin of ``record``, with those of its headers that are named and are UTF-8."""
    kept: dict[str, str] = {}
    for name, value in record.headers:
        if name in headers and value is not None and len(value) <= LONGEST:
            try:
                kept[name] = value.decode()
            except UnicodeDecodeError:  # whatever wrote it, it is not a trace
                continue
    key = record.key if record.key is None or len(record.key) <= LONGEST else None
    return Origin(record.partition, record.offset, key, tuple(kept.items()))
