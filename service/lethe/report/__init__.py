"""Writes one run, or several side by side, as an HTML file that needs no network.

::

    formatting.py      numbers as text
    headline.py        the sentence that sums up a run
    vital_signs.py     whether it forgets, what is left of the budget, whether it learns
    figures.py         parts of figures for Plotly, as plain data; colours are names of the style sheet
    stream_marks.py    switches, boundaries and the timeline of segments
    probe_figures.py   accuracy, calibration and forgetting of each probe
    stream_figures.py  accuracy on the stream, and throughput
    score_curves.py    each score over the stream
    class_heatmap.py   the accuracy on each class over the stream
    small_table.py     R alone, for a notebook
    themed_figure.py   a figure alone, for a notebook
    promotion.py       which of several models is the best, by its worst case
    tables.py          tables as data: the matrix R, scores, sample counts, measurement
    page.py            renders all of it with report.html.jinja
"""

from collections.abc import Sequence
from pathlib import Path

from lethe.observability.result import RunResult
from lethe.report.page import page

__all__ = ["write_report"]


def write_report(runs: Sequence[RunResult], path: Path) -> None:
    """Write the report on ``runs``, one for each learner, to ``path`` atomically.

    Raises ValueError when ``runs`` is empty.
    """
    if not runs:
        raise ValueError("a report needs at least one run")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(page(runs), encoding="utf-8")
    partial.replace(path)
