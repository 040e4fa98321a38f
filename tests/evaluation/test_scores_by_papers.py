"""Every score of a history, against formulas written down from the papers over the whole series.

Nothing of `lethe.evaluation` is used on this side: the series of all evaluations is kept, and each score
is computed from it anew, with loops as slow as the formulas are plain. Accuracies are multiples of 1/64,
so that sums are exact and the numbers must be equal to the last bit; only if a fixed order of additions
or a power is a matter of the implementation is a relative error of 1e-12 allowed.
"""

import json
import random
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lethe.evaluation.history import History
from lethe.evaluation.history_state import CURVE_POINTS
from lethe.events import Evaluated, Reading, Scores, ScoresUpdated

Accuracies = tuple[float, ...]


@dataclass
class Series:
    """All that happened: evaluation n found ``whole[n]`` and ``subset[n]`` during visit ``visit[n]``."""

    probes: tuple[str, ...]
    w: int
    visits: list[str] = field(default_factory=list)
    batches: list[tuple[int, int]] = field(default_factory=list)
    samples: int = 0
    whole: list[Accuracies] = field(default_factory=list)
    subset: list[Accuracies] = field(default_factory=list)
    ece: list[Accuracies] = field(default_factory=list)
    visit: list[int] = field(default_factory=list)
    at: list[int] = field(default_factory=list)
    """Samples learned before each evaluation."""
    ends: dict[int, int] = field(default_factory=dict)
    """The evaluation after which each segment ended; 0 is of the untrained learner."""

    def seen(self, visit: int) -> list[int]:
        """The probes of the segments up to ``visit``, in the order of their first ones."""
        names = [name for name in self.visits[:visit] if name in self.probes]
        return [self.probes.index(name) for name in dict.fromkeys(names)]

    def first(self, probe: int) -> int:
        """k_j: the number of its first segment."""
        return self.visits.index(self.probes[probe]) + 1

    @property
    def matrix(self) -> np.ndarray:
        """R, whose last row is the latest evaluation if the last segment has not ended."""
        R = [self.whole[self.ends[i]] for i in range(len(self.visits)) if i in self.ends]
        R.append(self.whole[self.ends.get(len(self.visits), -1)])
        return np.array(R)


def acc(s: Series) -> float | None:
    """Lopez-Paz & Ranzato 2017: 1/T Σ R[T,j]."""
    seen = s.seen(len(s.visits))
    return float(np.mean([s.matrix[-1, j] for j in seen])) if seen else None


def bwt(s: Series) -> float | None:
    """Lopez-Paz & Ranzato 2017: 1/(T−1) Σ_{j<T} R[T,j] − R[j,j]."""
    R, T = s.matrix, len(s.visits)
    old = [j for j in s.seen(T) if s.first(j) < T]
    return float(np.mean([R[T, j] - R[s.first(j), j] for j in old])) if old else None


def fwt(s: Series) -> float | None:
    """Lopez-Paz & Ranzato 2017: 1/(T−1) Σ_{j≥2} R[j−1,j] − R[0,j]."""
    R = s.matrix
    later = [j for j in s.seen(len(s.visits)) if s.first(j) >= 2]
    return float(np.mean([R[s.first(j) - 1, j] - R[0, j] for j in later])) if later else None


def forgetting(s: Series) -> dict[str, float]:
    """Chaudhry et al. 2018: f_j = max_{l in 1…T−1} R[l,j] − R[T,j]."""
    R, T = s.matrix, len(s.visits)
    return {s.probes[j]: float(R[1:T, j].max() - R[T, j]) for j in s.seen(T) if s.first(j) < T}


def min_acc(s: Series) -> float | None:
    """De Lange et al. 2023: 1/(k−1) Σ_{i<k} min_n A(E_i, f_n), t_{|T_i|} < n ≤ t.

    A task that comes back is itself again, not task k + 1: while it is learned, it is E_k.
    """
    current, minima = s.visits[-1] if s.visits else None, []
    for j in s.seen(len(s.visits)):
        if s.probes[j] != current:
            after = [
                accuracies[j]
                for accuracies, visit in zip(s.whole, s.visit, strict=True)
                if visit > s.first(j) and s.visits[visit - 1] != s.probes[j]
            ]
            minima.append(min(after))
    return float(np.mean(minima)) if minima else None


def wc_acc(s: Series) -> float | None:
    """De Lange et al. 2023: 1/k A(E_k, f_t) + (1 − 1/k) min-ACC."""
    if not s.visits or s.visits[-1] not in s.probes:
        return None
    current, k = s.whole[-1][s.probes.index(s.visits[-1])], len(s.seen(len(s.visits)))
    if k == 1:
        return current
    minimum = min_acc(s)
    assert minimum is not None
    return current / k + (1 - 1 / k) * minimum


def windowed(s: Series) -> tuple[float | None, float | None]:
    """De Lange et al. 2023: WF^w and WP^w over every pair m < n within w evaluations; WF from b_j on."""
    drops, rises = [], []
    seen = s.seen(len(s.visits)) if s.visits or not s.samples else list(range(len(s.probes)))
    for j in seen:
        curve = [accuracies[j] for accuracies in s.subset]
        before = [n for n, visit in enumerate(s.visit) if s.visits and visit < s.first(j)]
        b, drop, rise = max(before, default=0), 0.0, 0.0
        for n in range(len(curve)):
            for m in range(max(0, n - s.w + 1), n):
                rise = max(rise, curve[n] - curve[m])
                if m >= b:
                    drop = max(drop, curve[m] - curve[n])
        drops.append(drop)
        rises.append(rise)
    return (float(np.mean(drops)), float(np.mean(rises))) if seen else (None, None)


def anytime(s: Series) -> float | None:
    """CapyMOA: the mean over all evaluations of the mean over the tasks seen then."""
    means = [
        np.mean([accuracies[j] for j in s.seen(visit)])
        for accuracies, visit in zip(s.whole, s.visit, strict=True)
        if s.seen(visit)
    ]
    return float(np.mean(means)) if means else None


def fading(s: Series) -> float | None:
    """Gama et al. 2013, sample by sample: S ← s + α S, N ← 1 + α N."""
    S = N = 0.0
    for samples, correct in s.batches:
        for _ in range(samples):
            S, N = correct / samples + 0.999 * S, 1 + 0.999 * N
    return S / N if N else None


def check(s: Series, measured: ScoresUpdated) -> None:
    scores: Scores = measured.scores
    assert [list(row) for row in measured.R] == s.matrix.tolist()[: len(measured.R)]
    lost = forgetting(s)
    wf, wp = windowed(s)
    seen = s.seen(len(s.visits))
    exact = {
        "acc": acc(s),
        "bwt": bwt(s),
        "fwt": fwt(s),
        "forgetting": float(np.mean(list(lost.values()))) if lost else None,
        "min_acc": min_acc(s),
        "wc_acc": wc_acc(s),
        "windowed_forgetting": wf,
        "windowed_plasticity": wp,
        "prequential_accuracy": sum(c for _, c in s.batches) / s.samples if s.samples else None,
    }
    if not s.visits and s.samples:
        seen, after = list(range(len(s.probes))), [n for n, at in enumerate(s.at) if at]
        lost = {p: max(s.subset[n][j] for n in after) - s.subset[-1][j] for j, p in enumerate(s.probes)}
        exact["forgetting"] = float(np.mean(list(lost.values())))
    exact["ece"] = float(np.mean([s.ece[-1][j] for j in seen])) if seen else None
    assert {name: getattr(scores, name) for name in exact} == exact
    assert measured.forgetting_by_probe == lost
    assert scores.anytime_accuracy == (
        None if (mean := anytime(s)) is None else pytest.approx(mean, rel=1e-12)
    )


class Twin:
    """A history and the plain series of what it was given."""

    def __init__(self, probes: int, w: int) -> None:
        names = tuple("abcdef"[:probes])
        self.history, self.series = History(names, w), Series(names, w)

    def learn(self, samples: int, correct: int) -> None:
        self.history.learned(samples, correct)
        self.series.batches.append((samples, correct))
        self.series.samples += samples

    def switch(self, name: str) -> None:
        self.history.segment_started(name)
        self.series.visits.append(name)

    def evaluate(
        self, values: list[tuple[float, float, float]], *, full: bool, ends: bool = False
    ) -> ScoresUpdated:
        s, visit = self.series, len(self.series.visits)
        values = [(whole, subset if full else whole, ece) for whole, subset, ece in values]
        readings = {
            name: Reading(whole, subset, (), ece)
            for name, (whole, subset, ece) in zip(s.probes, values, strict=True)
        }
        event = Evaluated(s.samples, readings, full, visit, None, ends, 0.1)
        whole, subset, ece = zip(*values, strict=True)
        if ends or (full and not visit and not s.samples):
            s.ends[visit] = len(s.whole)
        s.whole.append(whole)
        s.subset.append(subset)
        s.ece.append(ece)
        s.visit.append(visit)
        s.at.append(s.samples)
        measured = self.history.evaluated(event)
        expected = fading(s)
        assert self.history.prequential.fading == (
            None if expected is None else pytest.approx(expected, rel=1e-9)
        )
        return measured

    def crash(self) -> None:
        self.history = History.from_json(json.loads(json.dumps(self.history.to_json())))


ratios = st.integers(0, 64).map(lambda n: n / 64)
readings = st.lists(st.tuples(ratios, ratios, ratios), min_size=4, max_size=4)
within = st.lists(
    st.one_of(
        st.tuples(st.just("learn"), st.integers(1, 200), st.floats(0, 1)),
        st.tuples(st.just("evaluate"), st.booleans(), readings),
        st.tuples(st.just("crash"), st.none(), st.none()),
    ),
    max_size=6,
)
visits = st.lists(st.tuples(st.sampled_from(["a", "b", "c", "d", "noise"]), within, readings), max_size=7)


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(2, 12), readings, within, visits)
def test_every_score_is_the_papers_over_any_series_of_visits_evaluations_and_restarts(
    probes: int,
    w: int,
    untrained: list[tuple[float, float, float]],
    nameless: list[tuple[str, object, object]],
    visits: list[tuple[str, list[tuple[str, object, object]], list[tuple[float, float, float]]]],
) -> None:
    twin = Twin(probes, w)
    check(twin.series, twin.evaluate(untrained[:probes], full=True))
    play(twin, nameless)
    for name, steps, end in visits:
        if name in twin.history.segments[-1:]:
            continue
        twin.switch(name)
        play(twin, steps)
        check(twin.series, twin.evaluate(end[:probes], full=True, ends=True))


def play(twin: Twin, steps: list[tuple[str, object, object]]) -> None:
    for step in steps:
        match step:
            case "learn", int(samples), float(share):
                twin.learn(samples, int(samples * share))
            case "evaluate", bool(full), list(values):
                check(twin.series, twin.evaluate(values[: len(twin.series.probes)], full=full))
            case _:
                twin.crash()


def test_every_score_is_the_papers_over_more_evaluations_than_the_curve_keeps() -> None:
    draw = random.Random(31)
    twin = Twin(3, 10)
    level = [0, 0, 0]

    def values() -> list[tuple[float, float, float]]:
        return [((low + draw.randint(0, 16)) / 64, (low + draw.randint(0, 16)) / 64, 0.5) for low in level]

    twin.evaluate(values(), full=True)
    for name in "abacbnab":
        if twin.history.segments:
            check(twin.series, twin.evaluate(values(), full=True, ends=True))
        twin.switch(name)
        level = [draw.randint(0, 48) for _ in level]
        for turn in range(CURVE_POINTS // 6):
            twin.learn(5, draw.randint(0, 5))
            measured = twin.evaluate(values(), full=turn % 7 == 0)
        check(twin.series, measured)
        twin.crash()
    assert len(twin.series.whole) > CURVE_POINTS + 8


def test_a_probe_that_is_learned_again_is_current_and_not_old() -> None:
    twin = Twin(2, 10)
    twin.evaluate([(0.1, 0.1, 0.0)] * 2, full=True)
    for name, a, b in (("a", 0.9, 0.1), ("b", 0.3, 0.95), ("a", 0.95, 0.5)):
        twin.switch(name)
        twin.learn(10, 5)
        measured = twin.evaluate([(a, a, 0.0), (b, b, 0.0)], full=True, ends=True)
    assert measured.scores.min_acc == 0.5
    assert measured.scores.wc_acc == pytest.approx(0.725)


def test_a_rise_that_begins_before_the_subject_was_first_learned_is_plasticity() -> None:
    twin = Twin(2, 10)
    twin.evaluate([(0.9, 0.9, 0.0), (0.05, 0.05, 0.0)], full=True)
    for name, b in (("a", 0.30), ("b", 0.90)):
        twin.switch(name)
        twin.learn(10, 5)
        measured = twin.evaluate([(0.9, 0.9, 0.0), (b, b, 0.0)], full=True, ends=True)
    assert measured.scores.windowed_plasticity == pytest.approx(0.85 / 2), "a rose by nothing, b by 0.85"
    assert measured.scores.windowed_forgetting == 0.0
