"""A service whose speed is measured between two moments, on its own clock."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from lethe.experiments.bench.ranks.cores import cpu_seconds
from lethe.experiments.bench.ranks.costs import RoundCosts, read_costs
from lethe.experiments.bench.ranks.speeds import Reached
from lethe.experiments.chaos.kill_loop import NoProgress
from lethe.experiments.chaos.service import Service

__all__ = ["Watched", "reached_between"]

LOOK_SECONDS: Final = 0.02
"""Between two looks while nothing is measured yet."""
SELDOM_SECONDS: Final = 0.2
"""Between two looks while something is measured: each takes the service a millisecond."""
STUCK_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Mark:
    """Samples learned, the service's seconds until then, and the processor time of its processes."""

    samples: int
    seconds: float
    cpu: float


@dataclass(frozen=True)
class Watched:
    """A running service that learns ``round_samples`` at a time."""

    service: Service
    round_samples: int
    ranked: bool = False
    """Whether it is rank 0 of several, whose metrics say what its rounds cost."""

    def mark(self) -> Mark | None:
        """Return where it is; None in mid-round, or while it does not respond. Raises LetheError."""
        if self.service.ended():
            raise NoProgress("the service has ended before it could be measured")
        state = self.service.state()
        if state is None or state["samples"]["learned"] % self.round_samples:
            return None
        return Mark(state["samples"]["learned"], state["seconds"], cpu_seconds(self.service.pid))

    def costs(self, at: Mark) -> RoundCosts | None:
        """Return what its rounds have cost until ``at``, which is now; None for a service without rounds."""
        return read_costs(self.service.metrics(), at.seconds, at.samples) if self.ranked else None


def reached_between(services: Sequence[Watched], warm: int, samples: int) -> Reached:
    """Return what ``services`` reach once each has learned ``warm`` samples, until one has ``samples`` more.

    Raises LetheError if one ends before, or learns nothing.
    """
    before = _marks(services, lambda marks: all(mark.samples >= warm for mark in marks), LOOK_SECONDS)
    costs_before = services[0].costs(before[0])
    ends = [mark.samples + samples for mark in before]
    after = _marks(
        services,
        lambda marks: any(mark.samples >= end for mark, end in zip(marks, ends, strict=True)),
        SELDOM_SECONDS,
    )
    costs = services[0].costs(after[0])
    pairs = list(zip(before, after, strict=True))
    learned = sum(b.samples - a.samples for a, b in pairs)
    return Reached(
        sum((b.samples - a.samples) / (b.seconds - a.seconds) for a, b in pairs if b.samples > a.samples),
        sum(b.cpu - a.cpu for a, b in pairs) / learned,
        None if costs is None or costs_before is None else costs - costs_before,
    )


def _marks(
    services: Sequence[Watched], reached: Callable[[Sequence[Mark]], bool], pause: float
) -> Sequence[Mark]:
    """Wait until all services are between two rounds and ``reached`` is true of where they are."""
    last: list[Mark | None] = [None for _ in services]
    since = time.monotonic()
    while True:
        marks = [service.mark() for service in services]
        known = [mark for mark in marks if mark is not None]
        if len(known) == len(services) and reached(known):
            return known
        if marks != last:
            last, since = marks, time.monotonic()
        elif time.monotonic() - since > STUCK_SECONDS:
            raise NoProgress(f"a service has learned nothing in the last {STUCK_SECONDS:.0f} s")
        time.sleep(pause)
