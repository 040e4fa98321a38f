"""When a service is killed: seeded instants, most over the stream, some while it starts."""

import random
from dataclasses import dataclass
from typing import Final

__all__ = ["Instant", "instants"]

START_SHARE: Final = 5
"""One kill in so many falls into the start-up."""
AFTER_SECONDS: Final = 0.05
"""At most so long after its samples are learned, an instant comes: it may fall anywhere in a turn."""
LATEST: Final = 0.98
"""Of the stream: a service that is killed must not have ended by itself just before."""


@dataclass(frozen=True, slots=True)
class Instant:
    """``seconds`` after so many ``samples`` are learned, or after the start when that is None."""

    samples: int | None
    seconds: float


def instants(kills: int, total: int, start_seconds: float, seed: int) -> list[Instant]:
    """Return so many instants over a stream of ``total`` samples, in the order in which they come.

    ``start_seconds`` is how long a service takes from its start to its first learned sample.
    """
    rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
    at_start = kills // START_SHARE
    samples = sorted(rng.randint(1, max(1, int(LATEST * total))) for _ in range(kills - at_start))
    plan = [Instant(count, rng.uniform(0, AFTER_SECONDS)) for count in samples]
    for _ in range(at_start):
        plan.insert(rng.randint(0, len(plan)), Instant(None, rng.uniform(0, start_seconds)))
    return plan
