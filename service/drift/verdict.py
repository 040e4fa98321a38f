"""How well boundaries were found, against the segments that the stream was made of."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Verdict", "judge"]


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


def judge(switches: Sequence[int], found: Sequence[int]) -> Verdict:
    """Return the verdict; both are numbers of samples learned before, in order.

    The first boundary found after a switch and not after the next one is that switch's; every other
    one is a false alarm. Where one subject gives way to another little by little, the switch is where
    the service first saw a batch of the new one alone, and what is found earlier counts as false.

    >>> judge([1000, 2000], [400, 1064, 1500])
    Verdict(delays=(64, None), false_alarms=2)
    """
    left = list(found)
    delays: list[int | None] = []
    for index, switch in enumerate(switches):
        end = switches[index + 1] if index + 1 < len(switches) else math.inf
        hit = next((at for at in left if switch < at <= end), None)
        delays.append(None if hit is None else hit - switch)
        if hit is not None:
            left.remove(hit)
    return Verdict(tuple(delays), len(left))
