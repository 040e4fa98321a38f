"""A batch of good records as the reader announces it."""

import time

from lethe.ingest.batcher import FilledBatch
from lethe.stream.source import Position

__all__ = ["filled"]


def filled(first: int) -> FilledBatch:
    """40 good records of one partition, from ``first`` on."""
    until, now = Position({0: first + 40}), time.monotonic()
    return FilledBatch(0, 40, {0: first}, until, 40, {}, 0, 0, (), now, time.time(), {0: first + 40}, None)
