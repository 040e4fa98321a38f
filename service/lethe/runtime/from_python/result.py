"""The result of learning from Python: scores, a frame, a figure, and a small table in a notebook."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import numpy.typing as npt

from lethe.errors import MissingExtra
from lethe.events import SCORES
from lethe.learners.base import Learner
from lethe.observability.result import RunResult

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

__all__ = ["Run"]


@dataclass(frozen=True, repr=False)
class Run:
    """A run that has ended: what `lethe.run` and `lethe.run_topic` return.

    In a notebook it shows itself as the matrix R, in the colours of the page's theme.
    """

    result: RunResult
    """Everything that was measured, as in ``run.json``."""
    learner: Learner | None = None
    """The learner, as the run left it; None if the run was read from a file."""

    @property
    def R(self) -> npt.NDArray[np.float64]:  # noqa: N802 - the field's own name
        """The accuracy after segment i on probe j, of shape [segments + 1, probes]; row 0 is untrained."""
        return np.array(self.result.R, np.float64).reshape(len(self.result.R), len(self.result.probes))

    @property
    def acc(self) -> float | None:
        """Mean accuracy on the probes of the learned segments, at the end; None if it is not defined."""
        return self.result.acc

    @property
    def bwt(self) -> float | None:
        """Backward transfer: below 0, what was learned first was forgotten; None if it is not defined."""
        return self.result.bwt

    @property
    def fwt(self) -> float | None:
        """Forward transfer; None if it is not defined."""
        return self.result.fwt

    @property
    def forgetting(self) -> float | None:
        """How far earlier probes are below their best, on average; None if it is not defined."""
        return self.result.forgetting

    @property
    def scores(self) -> dict[str, float | None]:
        """Every score by name; None for one that is not defined."""
        return {name: getattr(self.result, name) for name in SCORES}

    def to_frame(self) -> "pd.DataFrame":
        """Return a pandas DataFrame with a row for each evaluation.

        Columns are ``samples`` (learned before), ``segment`` (missing before the first), ``full`` (on whole
        probes), ``ends_segment``, ``accuracy.PROBE`` for each probe, and each score that was defined.
        Raises MissingExtra without pandas.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtra("Run.to_frame", "pandas") from error
        segments = self.result.segments
        rows = [
            {
                "samples": point.samples,
                "segment": segments[point.visit - 1] if 0 < point.visit <= len(segments) else None,
                "full": point.full,
                "ends_segment": point.ends_segment,
                **{f"accuracy.{probe}": accuracy for probe, accuracy in point.accuracy.items()},
                **point.scores,
            }
            for point in self.result.evaluations
        ]
        return pd.DataFrame(rows)

    def plot(
        self,
        kind: Literal["accuracy", "forgetting", "levels", "changes", "prequential"] = "accuracy",
        *,
        dark: bool = False,
    ) -> "Figure":
        """Return a figure of the report for Plotly: the accuracy on each probe over the stream by default.

        ``forgetting`` has a bar for each earlier probe, ``levels`` and ``changes`` the scores over the
        stream, ``prequential`` the accuracy on the stream itself. Colours are those of the report, on a
        ``dark`` or a light page. Raises ValueError for a kind of which nothing was measured.
        """
        from plotly.graph_objects import Figure

        from lethe.report.themed_figure import themed_figure

        return Figure(themed_figure(self.result, kind, dark=dark))

    def write(self, folder: Path | str) -> Path:
        """Write ``run.json`` and ``report.html`` into ``folder``, and return the report's path."""
        from lethe.report import write_report  # plotly is slow to import

        report = Path(folder) / "report.html"
        self.result.write(Path(folder) / "run.json")
        write_report([self.result], report)
        return report

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Return the run of a ``run.json``. Raises InvalidFile for anything else."""
        return cls(RunResult.read(Path(path)))

    def _repr_html_(self) -> str:
        from lethe.report.small_table import small_table

        return small_table(self.result)

    def __repr__(self) -> str:
        result = self.result
        known = {name: value for name in ("acc", "bwt") if (value := getattr(result, name)) is not None}
        shown = "".join(f", {name}={value:.3f}" for name, value in known.items())
        return f"<lethe.Run of {result.learner}: {result.samples.learned} samples{shown}>"
