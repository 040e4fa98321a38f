"""The formulas of continual learning, as pure functions over plain sequences of numbers.

``R[i][j]`` is the accuracy on probe j after segment i; row 0 belongs to the untrained
learner, so T segments make T + 1 rows. ``visits[i - 1]`` is the probe of segment i, or None
for a segment without one. Accuracies are ratios from 0 to 1.

Segments may recur. Two choices make every formula mean the same for streams that do and
streams that do not:

- probe j counts from the row of its *first* visit, written k_j; for distinct segments listed
  in the order of their probes, k_j = j;
- a probe is *old* after segment T when k_j < T. For distinct segments there are T − 1.

min-ACC and WC-ACC divide the probes seen so far into the *current* one, of the segment being learned,
and the *others*. The probe of a recurring segment is current while the segment is learned again, as in
the code of De Lange et al. For distinct segments the others are the old probes.

A score that is not defined yet, such as BWT before the second segment has ended, is None.

The papers, which the functions cite by author and year, are listed with the scores in `lethe.events.scores`.
"""

from collections.abc import Iterable, Sequence
from statistics import fmean

__all__ = [
    "Matrix",
    "Visits",
    "anytime_accuracy",
    "average_accuracy",
    "backward_transfer",
    "below_best",
    "first_visits",
    "forgetting",
    "forgetting_by_probe",
    "forward_transfer",
    "min_acc",
    "wc_acc",
]

Matrix = Sequence[Sequence[float]]
"""Accuracies of shape [T + 1, P]."""
Visits = Sequence[int | None]
"""The probe (column of R) of each segment, of shape [T]."""


def first_visits(visits: Visits) -> dict[int, int]:
    """Return k_j, the row of the first visit, of every probe whose segment has been seen.

    >>> first_visits([0, 1, None, 0])
    {0: 1, 1: 2}
    """
    first: dict[int, int] = {}
    for row, probe in enumerate(visits, start=1):
        if probe is not None:
            first.setdefault(probe, row)
    return first


def average_accuracy(R: Matrix, visits: Visits) -> float | None:
    """ACC = (1/T) Σ_j R[T,j], over the probes seen so far. Lopez-Paz & Ranzato 2017.

    >>> round(average_accuracy([[0.1, 0.1], [0.992, 0.1], [0.339, 0.911]], [0, 1]), 3)
    0.625
    """
    last = _last_row(R, visits)
    return _mean(last[j] for j in first_visits(visits))


def backward_transfer(R: Matrix, visits: Visits) -> float | None:
    """BWT = 1/(T−1) Σ_{j<T} (R[T,j] − R[j,j]): how further learning changed the accuracy on old probes.

    Below 0 is forgetting. The mean is over the old probes and R[j,j] is the row of the first
    visit. Lopez-Paz & Ranzato 2017; their published code divides by T, which halves the value
    at T = 2.

    >>> round(backward_transfer([[0.1, 0.1], [0.992, 0.1], [0.339, 0.911]], [0, 1]), 3)
    -0.653
    """
    last = _last_row(R, visits)
    return _mean(last[j] - R[first][j] for j, first in _old(visits))


def forward_transfer(R: Matrix, visits: Visits) -> float | None:
    """FWT = 1/(T−1) Σ_{j≥2} (R[j−1,j] − R[0,j]): how much earlier segments help with later ones.

    The mean is over the probes first visited after the first segment; it needs the untrained
    row. Lopez-Paz & Ranzato 2017.

    >>> round(forward_transfer([[0.1, 0.1], [0.992, 0.13], [0.339, 0.911]], [0, 1]), 3)
    0.03
    """
    _last_row(R, visits)
    return _mean(R[first - 1][j] - R[0][j] for j, first in first_visits(visits).items() if first >= 2)


def forgetting_by_probe(R: Matrix, visits: Visits) -> dict[int, float]:
    """f_j = max_{1≤l<T} R[l,j] − R[T,j] for each old probe j; negative if it improved.

    The untrained row does not count towards the best. Chaudhry et al. 2018.

    >>> R = [[0.1, 0.1], [0.98, 0.1], [0.30, 0.91], [0.97, 0.41]]
    >>> {j: round(f, 2) for j, f in forgetting_by_probe(R, [0, 1, 0]).items()}
    {0: 0.01, 1: 0.5}
    """
    last = _last_row(R, visits)
    return {j: max(row[j] for row in R[1:-1]) - last[j] for j, _ in _old(visits)}


def forgetting(R: Matrix, visits: Visits) -> float | None:
    """F = the mean of f_j over the old probes; at least −BWT. Chaudhry et al. 2018.

    >>> round(forgetting([[0.1, 0.1], [0.992, 0.1], [0.339, 0.911]], [0, 1]), 3)
    0.653
    """
    return _mean(forgetting_by_probe(R, visits).values())


def below_best(curve: Sequence[float]) -> float:
    """f_j = max_n A(E_j, f_n) − A(E_j, f_N), N the latest evaluation, if no segments are named.

    This is f_j of Chaudhry et al. with each evaluation as the end of a segment, the latest included, so it
    is never negative. A curve holds the accuracy on the same images in every evaluation since learning began.

    >>> round(below_best([0.2, 0.9, 0.6]), 3)
    0.3
    """
    return max(curve) - curve[-1]


def min_acc(curves: Iterable[Sequence[float]]) -> float | None:
    """Return min-ACC = 1/(k−1) Σ_{j≠current} min_n A(E_j, f_n). De Lange et al. 2023.

    A curve holds the accuracy on one of the k probes seen so far, other than the current one, in every
    evaluation n since its segment first ended in which it was not the current one. The value decreases with
    more frequent evaluations and with smaller probes: report both with it.

    >>> min_acc([[0.9, 0.3, 0.6], [0.8, 0.7]])
    0.5
    """
    return _mean(min(curve) for curve in curves)


def wc_acc(current: float | None, minimum: float | None, k: int) -> float | None:
    """WC-ACC = (1/k) A(E_k) + (1 − 1/k) min-ACC. De Lange et al. 2023.

    ``current`` is the accuracy on the current probe E_k, ``minimum`` is min-ACC, and ``k`` is the number of
    distinct probes seen so far, the current one included.

    >>> wc_acc(0.9, 0.5, 2)
    0.7
    """
    if current is None or k < 1:
        return None
    if k == 1:
        return current
    return None if minimum is None else current / k + (1 - 1 / k) * minimum


def anytime_accuracy(rows: Iterable[Sequence[float]]) -> float | None:
    """Return the mean over evaluations of the mean accuracy over the probes seen so far. CapyMOA.

    A row holds one evaluation's accuracies on the probes whose segments have started; an empty
    one, before the first segment, does not count.

    >>> anytime_accuracy([[], [0.5], [0.75, 0.25], [1.0, 0.5]])
    0.5833333333333334
    """
    return _mean(fmean(row) for row in rows if row)


def _last_row(R: Matrix, visits: Visits) -> Sequence[float]:
    if len(R) != len(visits) + 1:
        raise ValueError(
            f"{len(R)} rows for {len(visits)} segments: R needs one row more than there are segments"
        )
    return R[-1]


def _old(visits: Visits) -> list[tuple[int, int]]:
    return [(j, first) for j, first in first_visits(visits).items() if first < len(visits)]


def _mean(values: Iterable[float]) -> float | None:
    # fmean adds exactly, so a score does not depend on the order of the probes
    listed = list(values)
    return fmean(listed) if listed else None
