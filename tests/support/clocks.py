"""Clocks that only a test advances."""

__all__ = ["Clock"]


class Clock:
    """A monotonic clock, ``now``, and the wall's, ``date``, in seconds."""

    def __init__(self) -> None:
        self.now, self.date = 100.0, 1e9

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.date += seconds
