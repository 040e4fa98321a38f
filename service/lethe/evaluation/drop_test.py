"""Sequential test whether an accuracy has dropped: any number of looks, one bound on false alarms.

Each draw compares the answers before and now to one image, chosen at random from a fixed set:
d = 1 if the answer was right and is wrong now, −1 for the opposite, 0 if nothing changed. The accuracy on
the set has dropped by E[d]. The test bets against E[d] ≤ tolerance: capital that is multiplied by
1 + λ (d − tolerance) with every draw cannot be expected to grow while that holds, so by Ville's inequality
the probability that it ever reaches 1/α is at most α. Betting and confidence sequences are two views of one
method: Howard, Ramdas, McAuliffe & Sekhon 2021, Time-uniform, nonparametric, nonasymptotic confidence
sequences; Waudby-Smith & Ramdas 2024, Estimating means of bounded random variables by betting.

A drop may come after any number of rounds, when capital that was bet from the start is long lost. So a share
of the capital is held back for each round: round r begins with 1/g(r) − 1/g(r+1) of it, g(r) = 1 + ln r,
which adds up to 1 over an endless life. A late drop costs only the logarithm of such a share.
"""

from math import log
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["BETS", "DropTest", "share_of_alpha"]

BETS: Final = (0.05, 0.1, 0.2, 0.4, 0.8)
"""λ: the capital is divided between them, so that small and large drops are found."""

Counts = int | npt.NDArray[np.int64]


class DropTest:
    """Tests, at any time and as often as wanted, whether an accuracy has dropped by more than ``tolerance``.

    While it has not, the probability of an alarm over the whole life is at most ``alpha``. ``tests``
    independent tests run side by side, which simulations use; all arrays have the shape [tests].
    Raises ValueError unless 0 < alpha < 1 and 0 ≤ tolerance < 0.2.

    >>> test = DropTest(alpha=0.05)
    >>> for _ in range(1000):
    ...     test.start_round()
    ...     test.add(lost=0, gained=0, images=16)
    >>> bool(test.alarm.any())
    False
    >>> test.start_round()
    >>> test.add(lost=30, gained=0, images=50)
    >>> bool(test.alarm.all())
    True
    """

    def __init__(self, alpha: float, tolerance: float = 0.01, tests: int = 1) -> None:
        if not 0 < alpha < 1:
            raise ValueError(f"alpha = {alpha}: a probability between 0 and 1 is needed")
        if not 0 <= tolerance < 0.2:
            raise ValueError(f"tolerance = {tolerance}: at least 0 and below 0.2")
        bets = np.array(BETS)
        self._alpha = alpha
        self._lost = 1 + bets * (1 - tolerance)
        self._same = 1 - bets * tolerance
        self._gained = 1 - bets * (1 + tolerance)
        self._capital = np.zeros((tests, len(bets)))
        self.rounds = 0
        """Rounds so far."""
        self.images = 0
        """Draws so far."""

    def start_round(self) -> None:
        """Put the share of the next round in."""
        self.rounds += 1
        self._capital += 1 / _g(self.rounds) - 1 / _g(self.rounds + 1)

    def add(self, lost: Counts, gained: Counts, images: int) -> None:
        """Add ``images`` draws, with replacement, of which ``lost`` have d = 1 and ``gained`` d = −1.

        How many there are may depend on all earlier ones. Raises ValueError before the first round.
        """
        if not self.rounds:
            raise ValueError("no round has started")
        plus, minus = np.atleast_1d(lost)[:, None], np.atleast_1d(gained)[:, None]
        # in logarithms: a thousand draws would leave the range of floats
        factor = plus * np.log(self._lost) + minus * np.log(self._gained)
        factor = factor + (images - plus - minus) * np.log(self._same)
        with np.errstate(divide="ignore"):
            self._capital = np.exp(np.minimum(np.log(self._capital) + factor, 700.0))
        self.images += images

    @property
    def evidence(self) -> npt.NDArray[np.float64]:
        """The capital, 1 at the beginning: the larger, the less compatible with no drop."""
        held_back: float = 1 / _g(self.rounds + 1)
        total: npt.NDArray[np.float64] = self._capital.mean(axis=1) + held_back
        return total

    @property
    def alarm(self) -> npt.NDArray[np.bool_]:
        """Whether there is enough evidence for a drop now."""
        enough: npt.NDArray[np.bool_] = self.evidence >= 1 / self._alpha
        return enough


def share_of_alpha(alpha: float, number: int) -> float:
    """Return the share of ``alpha`` for test ``number``, from 1, of an endless series: 6 / (π² k²).

    >>> sum(share_of_alpha(0.05, k) for k in range(1, 10_000)) < 0.05
    True
    """
    return alpha * 6 / (np.pi**2 * number**2)


def _g(r: int) -> float:
    return 1 + log(r)
