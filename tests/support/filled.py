"""A batch of good records as the reader announces it."""

import time

from lethe.ingest.batcher import FilledBatch
from lethe.stream.source import Position

__all__ = ["filled"]


def filled(first: int, count: int = 40, partition: int = 0) -> FilledBatch:
    """``count`` good records of one partition, from ``first`` on."""
    begin, end, now = {partition: first}, {partition: first + count}, time.monotonic()
    return FilledBatch(0, count, begin, Position(end), count, {}, 0, 0, (), now, time.time(), end, None)
