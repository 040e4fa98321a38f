"""How well boundaries were found, against the segments that the stream was made of."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["RegimeVerdict", "Verdict", "judge", "judge_regimes"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of each switch, and what was found where there was none."""

    delays: tuple[int | None, ...]
    """Of each switch, the samples learned until it was found; None for one that was missed."""
    false_alarms: int

    @property
    def missed(self) -> int:
        """Switches that were not found before the next one, or the end."""
        return sum(delay is None for delay in self.delays)


def judge(switches: Sequence[int], found: Sequence[int], ramps: Sequence[tuple[int, int]] = ()) -> Verdict:
    """Return the verdict; all are numbers of samples learned before, in order.

    The first boundary found after a switch and not after the next one is that switch's; every other
    one is a false alarm. Where one subject gives way to another little by little, the switch lasts
    from the begin of its ramp to the end, as in CapyMOA's EvaluateDriftDetector: it can be found from
    the begin on, from which its delay counts, and what else is found up to the end is not false,
    because the stream is changing still. A service knows no ramps: to it, a switch is where the
    records' header names another segment, in the middle, and what is found earlier is false.

    >>> judge([1000, 2000], [400, 1064, 1500])
    Verdict(delays=(64, None), false_alarms=2)
    >>> judge([1000], [400, 700, 1100, 1500], ramps=[(600, 1400)])
    Verdict(delays=(100,), false_alarms=2)
    """
    spans = [next((ramp for ramp in ramps if ramp[0] <= at <= ramp[1]), (at, at)) for at in switches]
    left = list(found)
    delays: list[int | None] = []
    for index, (begin, end) in enumerate(spans):
        next_begin = spans[index + 1][0] if index + 1 < len(spans) else math.inf
        hits = [at for at in left if begin < at <= next_begin]
        delays.append(hits[0] - begin if hits else None)
        for at in hits[:1] + [at for at in hits[1:] if at <= end]:
            left.remove(at)
    return Verdict(tuple(delays), len(left))


@dataclass(frozen=True, slots=True)
class RegimeVerdict:
    """What became of each visit to a segment."""

    returns: int
    """Visits to a segment that was visited before."""
    recognised: int
    """Of them, those that were told to be the regime that the segment was before."""
    mistaken: int
    """First visits to a segment that were told to be a regime of before."""


def judge_regimes(switches: Sequence[tuple[int, str]], told: Sequence[tuple[int, int]]) -> RegimeVerdict:
    """Return the verdict on regimes: segments, and numbers of regimes, each with the samples learned before.

    A visit's regime is the one that was told last before its end, in an earlier visit if there was none in
    it. Of the latest visit nothing is said until a regime was told in it.

    >>> judge_regimes([(0, "a"), (1000, "b"), (2000, "a"), (3000, "c")], [(256, 1), (1300, 2), (2300, 1)])
    RegimeVerdict(returns=1, recognised=1, mistaken=0)
    """
    returns = recognised = mistaken = 0
    regime_of: dict[str, int | None] = {}
    for index, (start, segment) in enumerate(switches):
        last = index + 1 == len(switches)
        end = math.inf if last else switches[index + 1][0]
        before = [(at, regime) for at, regime in told if at <= end]
        if last and not (before and before[-1][0] > start):
            break
        regime = before[-1][1] if before else None
        if segment in regime_of:
            returns += 1
            recognised += regime is not None and regime == regime_of[segment]
        else:
            mistaken += regime is not None and regime in regime_of.values()
        regime_of[segment] = regime
    return RegimeVerdict(returns, recognised, mistaken)
