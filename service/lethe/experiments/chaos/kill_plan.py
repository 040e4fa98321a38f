"""Plans when a service is killed: at seeded times, most in mid-stream, some during startup."""

import random
from dataclasses import dataclass
from typing import Final

__all__ = ["KillTime", "plan_kills"]

START_SHARE: Final = 5
"""One in this many kills happens during startup."""
AFTER_SECONDS: Final = 0.05
"""Maximum delay after the samples are learned, so that a kill can hit any point of an iteration."""
LATEST: Final = 0.98
"""Last kill, as a fraction of the stream, so that the service has not ended before it."""


@dataclass(frozen=True, slots=True)
class KillTime:
    """A kill ``seconds`` after ``samples`` were learned or, if that is None, after the start."""

    samples: int | None
    seconds: float


def plan_kills(kills: int, total: int, start_seconds: float, seed: int) -> list[KillTime]:
    """Return ``kills`` kill times over a stream of ``total`` samples, in order.

    ``start_seconds`` is the time from a service's start to its first learned sample.
    """
    rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
    at_start = kills // START_SHARE
    samples = sorted(rng.randint(1, max(1, int(LATEST * total))) for _ in range(kills - at_start))
    plan = [KillTime(count, rng.uniform(0, AFTER_SECONDS)) for count in samples]
    for _ in range(at_start):
        plan.insert(rng.randint(0, len(plan)), KillTime(None, rng.uniform(0, start_seconds)))
    return plan
