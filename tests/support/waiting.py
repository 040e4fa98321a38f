"""Waits for a condition."""

import time
from collections.abc import Callable

__all__ = ["until"]


def until(true: Callable[..., object], what: str, seconds: float = 240) -> None:
    """Wait until ``true`` returns a true value; fail after ``seconds``.

    It is called once more after the deadline, so that a suspended test process does not count as a failure.
    """
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline or true(), f"not within {seconds:g} s: {what}"
        time.sleep(0.02)
