"""Waiting for what another process does."""

import time
from collections.abc import Callable

__all__ = ["until"]


def until(true: Callable[..., object], what: str, seconds: float = 90) -> None:
    """Wait until ``true`` says so; fail when it takes too long.

    Whoever was stopped meanwhile asks once more after the time is over, or a stop would count as a failure.
    """
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline or true(), f"not within {seconds:g} s: {what}"
        time.sleep(0.02)
