"""The matrix R of one run as a small HTML table, for a notebook in any theme."""

from lethe.events import SCORES
from lethe.files.html.templates import render
from lethe.observability.result import RunResult
from lethe.report import tables
from lethe.report.formatting import number

__all__ = ["small_table"]


def small_table(run: RunResult) -> str:
    """Return R, with ACC and BWT; of a run without probes, the accuracy on the stream itself.

    Colours of text and lines are the page's, and cells are shaded with a transparent colour.
    """
    shown = ("acc", "bwt") if run.R else ("prequential_accuracy",)
    return render(
        "report/small_table.html.jinja",
        learner=run.learner,
        samples=number(run.samples.learned),
        scores=[(SCORES[name].label, tables.value(run, name)) for name in shown],
        matrix=tables.matrix(run),
    )
