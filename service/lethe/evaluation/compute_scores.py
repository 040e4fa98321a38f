"""Computes the scores of an evaluation from what a history holds."""

from statistics import fmean

from lethe.evaluation import score_formulas
from lethe.evaluation.history_state import HistoryState, Point
from lethe.events import Scores

__all__ = ["compute_forgetting", "compute_scores", "compute_stream_scores"]


def compute_scores(state: HistoryState, last: Point) -> Scores:
    """Return the scores after the evaluation ``last``; those that are not defined yet are None.

    A segment that is still being learned counts with its latest evaluation.
    """
    row, visits = last.accuracy, state.visits
    R = _rows(state, last)
    complete = len(R) > len(visits)  # not if the service was started midway, without row 0
    lost = compute_forgetting(state, last)
    current = visits[-1] if visits else None
    others = [name for name in state.minima if current is None or name != state.probes[current]]
    minimum = score_formulas.min_acc([state.minima[name]] for name in others)
    first = score_formulas.first_visits(visits)
    # in a stream without segment names every probe counts once anything was learned
    seen = list(first) if visits or not last.samples else range(len(state.probes))
    windows = [state.windows[j] for j in seen]
    return Scores(
        acc=score_formulas.average_accuracy(R, visits) if complete else None,
        bwt=score_formulas.backward_transfer(R, visits) if complete else None,
        fwt=score_formulas.forward_transfer(R, visits) if complete else None,
        forgetting=fmean(lost.values()) if lost else None,
        min_acc=minimum,
        wc_acc=score_formulas.wc_acc(None if current is None else row[current], minimum, len(first)),
        windowed_forgetting=fmean(window.drop for window in windows) if windows else None,
        windowed_plasticity=fmean(window.rise for window in windows) if windows else None,
        anytime_accuracy=state.anytime_sum / state.anytime_count if state.anytime_count else None,
        ece=fmean(last.ece[j] for j in seen) if seen else None,
        **compute_stream_scores(state),
    )


def compute_stream_scores(state: HistoryState) -> dict[str, float | None]:
    """Return, by name, the scores of the stream itself, which change with every batch."""
    return {"prequential_accuracy": state.prequential.cumulative}


def compute_forgetting(state: HistoryState, last: Point) -> dict[str, float]:
    """Return how far each old probe is below its best; every probe while no segment has been named."""
    R, visits = _rows(state, last), state.visits
    if len(R) <= len(visits):
        return {}
    if state.best:
        now = dict(zip(state.probes, last.on_subset, strict=True))
        return {name: score_formulas.below_best([state.best[name], now[name]]) for name in state.probes}
    by_column = score_formulas.forgetting_by_probe(R, visits)
    return {state.probes[j]: value for j, value in by_column.items()}


def _rows(state: HistoryState, last: Point) -> score_formulas.Matrix:
    return state.R if len(state.R) > len(state.visits) else [*state.R, list(last.accuracy)]
