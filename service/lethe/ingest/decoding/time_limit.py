"""A limit for the time that one image may take to decode."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

from lethe.errors import MalformedRecord
from lethe.wire import Reason

__all__ = ["decoding_seconds", "within"]

RESIDENCY_SHARE: Final = 0.1
"""Limit for decoding one record, as a share of the residency: several records have to fit into it."""
T = TypeVar("T")


def decoding_seconds(residency: float | None) -> float | None:
    """Return the limit for decoding one record under a residency in seconds; None for none."""
    return None if residency is None else RESIDENCY_SHARE * residency


def within(seconds: float | None, decode: Callable[[], T]) -> T:
    """Return what ``decode`` does; None is no limit.

    Raises MalformedRecord if it takes more than ``seconds`` of this thread's time, and its errors.
    """
    if seconds is None:
        return decode()
    began = time.thread_time()  # wall-clock time would count pauses of the process, too
    decoded = decode()
    if time.thread_time() - began > seconds:
        raise MalformedRecord(Reason.TOO_COSTLY, f"decoding takes longer than {seconds:g} s")
    return decoded
