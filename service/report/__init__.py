"""A finished run, or several side by side, as one HTML file that needs no network.

::

    words.py     numbers as people read them, and the headline made from them
    figures.py   what Plotly draws, as plain data; colours are names of the style sheet
    course.py    what each score was after every evaluation, over the stream
    classes.py   each class of a probe, as a heat map over the stream
    tables.py    what is a table: R as a heat map, every score, the samples' whereabouts
    page.py      all of it, with the style sheet and the scripts, in one document
"""

from collections.abc import Sequence
from pathlib import Path

from service.report.page import page
from service.result import RunResult

__all__ = ["write_report"]


def write_report(runs: Sequence[RunResult], path: Path) -> None:
    """Write the report on ``runs``, one learner each, to ``path``, atomically.

    Raises ValueError when there are no runs.
    """
    if not runs:
        raise ValueError("there are no runs to report on")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(page(runs), encoding="utf-8")
    partial.replace(path)
