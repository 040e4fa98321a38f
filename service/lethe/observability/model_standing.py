"""How a watched model stands: whether it answers, what it has lost, and its worst case."""

from dataclasses import dataclass

from lethe.evaluation.objective import losses
from lethe.events import RequestsMade
from lethe.observability.result import RunResult

__all__ = ["ModelStanding"]


@dataclass(frozen=True, slots=True)
class ModelStanding:
    """One watched model, as of its latest evaluation."""

    name: str
    address: str
    up: bool
    """Whether it answers; if not, the rest is as it was."""
    detail: str
    """Why it does not."""
    probe: str | None = None
    """The old skill that lost most; None while none is old."""
    lost: float | None = None
    """How far the accuracy on it is below its best."""
    acc: float | None = None
    wc_acc: float | None = None
    measured_seconds: float | None = None
    """Time since it was measured."""
    requests: int | None = None
    """Requests of the latest round; None for a model that another service watches."""
    latency_seconds: float | None = None
    """Median duration of these."""

    @classmethod
    def of(
        cls, name: str, run: RunResult, measured_seconds: float | None, asked: RequestsMade | None = None
    ) -> "ModelStanding":
        """Return the standing of the model that ``run`` is about; ``asked`` is its latest round."""
        now = run.evaluations[-1].accuracy if run.evaluations else {}
        lost = losses(now, {probe: f for probe, f in run.forgetting_by_probe.items() if probe in now})
        worst = max(lost, key=lambda probe: lost[probe]) if lost else None
        seconds = sorted(asked.seconds) if asked else []
        return cls(
            name=name,
            address=run.broker,
            up=run.unknown is None,
            detail=run.unknown or "",
            probe=worst,
            lost=None if worst is None else lost[worst],
            acc=run.acc,
            wc_acc=run.wc_acc,
            measured_seconds=measured_seconds if now else None,
            requests=None if asked is None else asked.answered + asked.failed,
            latency_seconds=seconds[len(seconds) // 2] if seconds else None,
        )
