"""The scores of continual learning: one field each, with all that is written about it anywhere.

Metrics, ``/state``, run.json, the report, the live page and the scoreboard derive their scores from the
fields of `Scores`. To add a score, write its formula in `lethe.evaluation.score_formulas`, its field here and
its line in `lethe.evaluation.compute_scores`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["SCORES", "ScoreInfo", "Scores"]


_GEM: Final = "Lopez-Paz & Ranzato 2017, Gradient Episodic Memory for Continual Learning"
_RWALK: Final = "Chaudhry et al. 2018, Riemannian Walk for Incremental Learning"
_STABILITY_GAP: Final = "De Lange et al. 2023, Continual Evaluation for Lifelong Learning"


@dataclass(frozen=True, slots=True)
class ScoreInfo:
    """What is written about a score; the docstring of its field is the `meaning`."""

    label: str
    """Its name in tables and legends."""
    brief: str
    """One line: the help text of the metric, and the caption on the live page."""
    formula: str
    paper: str
    kind: Literal["accuracy", "difference", "error"]
    """A difference of accuracies is shown in percentage points, all else in percent."""
    better: Literal["higher", "lower"]
    metric: str | None = None
    """The gauge that exports it, without its prefix ``lethe_``; None if another metric shows it."""
    source: Literal["probes", "stream"] = "probes"
    """What it is computed from; a score of the stream is an exact number about its records."""
    curve: bool = True
    """The report draws it over the stream together with the others of its kind."""
    key: str | None = None
    """Its key in the files of the scoreboard; None if that is its name."""
    column: Literal["mean", "spread"] | None = None
    """What the scoreboard's table in the terminal shows of it, None for nothing. The page shows all."""
    meaning: str = ""


class Scores(BaseModel):
    """Continual-learning scores so far; null while a score is not defined.

    The probes seen are those whose segment has started; the old ones, those whose segment has ended.
    Accuracies are ratios from 0 to 1. The formulas, with the papers, are in `lethe.evaluation`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    acc: Annotated[
        float | None,
        ScoreInfo(
            "ACC",
            "mean accuracy over the probes seen so far",
            "(1/T) Σ_j R[T,j]",
            paper=_GEM,
            kind="accuracy",
            better="higher",
            metric="average_accuracy_ratio",
            column="spread",
        ),
    ] = None
    """Average accuracy on the probes of all T segments seen so far."""
    bwt: Annotated[
        float | None,
        ScoreInfo(
            "BWT",
            "how further learning changed old probes; below 0 is forgetting",
            "1/(T−1) Σ_{j<T} (R[T,j] − R[j,j])",
            paper=_GEM,
            kind="difference",
            better="higher",
            metric="backward_transfer_ratio",
            column="spread",
        ),
    ] = None
    """Backward transfer: how further learning changed the accuracy on old probes. Below 0 is forgetting."""
    fwt: Annotated[
        float | None,
        ScoreInfo(
            "FWT",
            "how much earlier segments help with later ones",
            "1/(T−1) Σ_{j≥2} (R[j−1,j] − R[0,j])",
            paper=_GEM,
            kind="difference",
            better="higher",
            metric="forward_transfer_ratio",
        ),
    ] = None
    """Forward transfer: how much earlier segments helped with later ones before these began."""
    forgetting: Annotated[
        float | None,
        ScoreInfo(
            "Forgetting",
            "how far old probes are below their best",
            "mean of f_j = max_{l<T} R[l,j] − R[T,j]",
            paper=_RWALK,
            kind="difference",
            better="lower",
        ),
    ] = None
    """How far each old probe is below its best at the end of a segment, on average. If no segments are
    named: how far the subset of each probe is below its best in any evaluation."""
    min_acc: Annotated[
        float | None,
        ScoreInfo(
            "min-ACC",
            "mean lowest accuracy on the probes seen but the current one",
            "1/(k−1) Σ_{j≠k} min_n A(E_j, f_n)",
            paper=_STABILITY_GAP,
            kind="accuracy",
            better="higher",
            metric="min_accuracy_ratio",
        ),
    ] = None
    """Lowest accuracy on each probe other than the current one since its segment ended, on average.
    Evaluations while a segment is learned again do not count. Shows dips that recover."""
    wc_acc: Annotated[
        float | None,
        ScoreInfo(
            "WC-ACC",
            "the current probe as it is, the others at their lowest",
            "(1/k) A(E_k) + (1 − 1/k) min-ACC",
            paper=_STABILITY_GAP,
            kind="accuracy",
            better="higher",
            metric="worst_case_accuracy_ratio",
            column="spread",
        ),
    ] = None
    """Worst-case accuracy: the current probe E_k as it is, the other k − 1 at their lowest."""
    windowed_forgetting: Annotated[
        float | None,
        ScoreInfo(
            "WF",
            "windowed forgetting, the mean largest drop of a probe within a window since first learned",
            "mean of max A(E_j, f_m) − A(E_j, f_n) for b_j ≤ m < n < m + w",
            paper=_STABILITY_GAP,
            kind="difference",
            better="lower",
            metric="windowed_forgetting_ratio",
        ),
    ] = None
    """Windowed forgetting: the largest drop of each probe's accuracy within w evaluations since it was first
    learned (b_j is the last evaluation before that), on average over the probes seen."""
    windowed_plasticity: Annotated[
        float | None,
        ScoreInfo(
            "WP",
            "windowed plasticity, the mean largest rise of a probe within a window",
            "mean of max A(E_j, f_n) − A(E_j, f_m) for m < n < m + w",
            paper=_STABILITY_GAP,
            kind="difference",
            better="higher",
            metric="windowed_plasticity_ratio",
        ),
    ] = None
    """Windowed plasticity: the largest rise of each probe's accuracy within w evaluations, before it was
    first learned or after, on average over the probes seen."""
    anytime_accuracy: Annotated[
        float | None,
        ScoreInfo(
            "Anytime accuracy",
            "mean of ACC over all evaluations",
            "mean over evaluations of ACC so far",
            paper="Lee et al. 2025, CapyMOA",
            kind="accuracy",
            better="higher",
            metric="anytime_accuracy_ratio",
            key="anytime",
            column="spread",
        ),
    ] = None
    """Mean of ACC over all evaluations: the accuracy to expect at a random moment of the stream."""
    ece: Annotated[
        float | None,
        ScoreInfo(
            "ECE",
            "how far confidence is from accuracy",
            "Σ_m (n_m/n) |acc_m − conf_m|, 15 bins",
            paper="Guo et al. 2017, On Calibration of Modern Neural Networks",
            kind="error",
            better="lower",
            curve=False,
            column="mean",
        ),
    ] = None
    """Expected calibration error: how far confidence is from accuracy, on average over the probes seen."""
    prequential_accuracy: Annotated[
        float | None,
        ScoreInfo(
            "Prequential accuracy",
            "share of samples predicted correctly before they were learned",
            "correct predictions / samples",
            paper="Gama, Sebastião & Rodrigues 2013, On Evaluating Stream Learning Algorithms",
            kind="accuracy",
            better="higher",
            source="stream",
            curve=False,
        ),
    ] = None
    """Test-then-train accuracy: each sample is predicted before it is learned."""

    def defined(self) -> dict[str, float]:
        """Return the scores that are defined, by name."""
        values = {name: getattr(self, name) for name in SCORES}
        return {name: value for name, value in values.items() if value is not None}


def _infos() -> Mapping[str, ScoreInfo]:
    infos = {}
    for name, field in Scores.model_fields.items():
        (info,) = (item for item in field.metadata if isinstance(item, ScoreInfo))
        infos[name] = replace(info, meaning=" ".join((field.description or "").split()))
    return infos


SCORES: Final = _infos()
"""What is written about each score, by its name, in the order of the fields of `Scores`."""
