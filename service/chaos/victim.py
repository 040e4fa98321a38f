"""One run, killed at every instant of a plan and started again each time with the same settings."""

import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from service.chaos.instants import Instant
from service.errors import LetheError

__all__ = ["Stuck", "Victim", "run_through", "watch"]

LOOK_SECONDS: Final = 0.01
STUCK_SECONDS: Final = 180.0
"""A service that learns nothing for so long will not end by itself."""


class Stuck(LetheError):
    """A service learns nothing any more, and does not end either."""


class Victim(Protocol):
    """A running service."""

    def kill(self) -> None:
        """End it at once, with what it is doing half done."""

    def ended(self) -> bool:
        """Tell whether it has come to its end; raises LetheError if that was an error."""

    def learned(self) -> int:
        """Return the samples it says it has learned; 0 while it does not answer."""


def run_through(
    start: Callable[[], Victim], plan: Iterable[Instant], told: Callable[[int], None] = lambda _: None
) -> int:
    """Carry a run through every kill of ``plan`` to its end, and return how often it was started again.

    ``told`` is given the number of kills after each. Raises LetheError when a service ends with
    an error, or learns nothing any more.
    """
    starts = 0
    for kills, instant in enumerate(plan, 1):
        while True:
            victim = start()
            starts += 1
            if _came(victim, instant):
                break
            # the run was over before: a restart finds that out, and may be killed while it does
            instant = Instant(None, instant.seconds / 2)
        victim.kill()
        told(kills)
    watch(start(), lambda _: False)
    return starts


def watch(victim: Victim, come: Callable[[int], bool]) -> bool:
    """Wait until ``come`` says so of the samples learned; False when the service ends before that.

    Raises LetheError when it ends with an error, or learns nothing any more.
    """
    last, since = 0, time.monotonic()
    while not victim.ended():
        learned, now = victim.learned(), time.monotonic()
        if come(learned):
            return True
        if learned != last:
            last, since = learned, now
        elif now - since > STUCK_SECONDS:
            raise Stuck(f"a service has learned {learned} samples and, for {STUCK_SECONDS:.0f} s, no more")
        time.sleep(LOOK_SECONDS)
    return False


def _came(victim: Victim, instant: Instant) -> bool:
    """Wait for an instant; False when the service ended before it."""
    if instant.samples is not None:
        wanted = instant.samples
        if not watch(victim, lambda learned: learned >= wanted):
            return False
    time.sleep(instant.seconds)
    return not victim.ended()
