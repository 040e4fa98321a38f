"""Runs a service through a plan of kills, restarting it each time with the same settings."""

import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from lethe.errors import LetheError
from lethe.experiments.chaos.kill_plan import KillTime

__all__ = ["KillableService", "NoProgress", "run_with_kills", "wait_for"]

LOOK_SECONDS: Final = 0.01
STUCK_SECONDS: Final = 180.0
"""Time without progress after which a service counts as stuck."""


class NoProgress(LetheError):
    """A service neither makes progress nor ends."""


class KillableService(Protocol):
    """A running service."""

    def kill(self) -> None:
        """Kill it immediately."""

    def ended(self) -> bool:
        """Return whether it has ended; raises LetheError if it ended with an error."""

    def learned(self) -> int:
        """Return the number of samples it reports as learned; 0 while it does not respond."""


def run_with_kills(
    start: Callable[[], KillableService],
    plan: Iterable[KillTime],
    on_kill: Callable[[int], None] = lambda _: None,
) -> int:
    """Run a service through every kill of ``plan`` to its end, and return the number of restarts.

    ``on_kill`` is called with the number of kills after each. Raises LetheError if a service ends with an
    error or makes no progress.
    """
    starts = 0
    for kills, kill_time in enumerate(plan, 1):
        while True:
            service = start()
            starts += 1
            if _wait_until(service, kill_time):
                break
            # the run had ended before: restart it, and kill it during startup
            kill_time = KillTime(None, kill_time.seconds / 2)
        service.kill()
        on_kill(kills)
    wait_for(start(), lambda _: False)
    return starts


def wait_for(service: KillableService, reached: Callable[[int], bool]) -> bool:
    """Wait until ``reached`` returns true for the samples learned; return False if the service ends first.

    Raises LetheError if it ends with an error or makes no progress.
    """
    last, since = 0, time.monotonic()
    while not service.ended():
        learned, now = service.learned(), time.monotonic()
        if reached(learned):
            return True
        if learned != last:
            last, since = learned, now
        elif now - since > STUCK_SECONDS:
            raise NoProgress(
                f"the service has learned {learned} samples, and none in the last {STUCK_SECONDS:.0f} s"
            )
        time.sleep(LOOK_SECONDS)
    return False


def _wait_until(service: KillableService, kill_time: KillTime) -> bool:
    """Wait until ``kill_time``; return False if the service ends first."""
    if kill_time.samples is not None:
        wanted = kill_time.samples
        if not wait_for(service, lambda learned: learned >= wanted):
            return False
    time.sleep(kill_time.seconds)
    return not service.ended()
