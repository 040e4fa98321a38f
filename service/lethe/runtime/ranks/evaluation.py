"""An evaluation in which every rank predicts its part of the probes' images."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter

from lethe.errors import DivergedLoss, InvalidSetting
from lethe.evaluation.evaluator import Evaluator, Interrupted
from lethe.evaluation.tally import Tally
from lethe.events import Reading
from lethe.learners.base import Learner

__all__ = ["PART", "TASK", "Part", "Task", "evaluate_part", "joined_parts"]


@dataclass(frozen=True, slots=True)
class Task:
    """What rank 0 has all ranks evaluate."""

    full: bool
    """Whether on whole probes."""
    classes: Sequence[str] | None
    """As for `Evaluator.tally`."""
    probes: Mapping[str, str]
    """The SHA-256 of each probe: those of all ranks have to be the same."""


@dataclass(frozen=True, slots=True)
class Part:
    """A rank's part of an evaluation."""

    tallies: Mapping[str, Tally]
    interrupted: bool = False
    """Whether it was asked to stop, and there is no result."""
    diverged: str = ""
    """What is wrong with its predictions; empty if nothing is."""


TASK: Final = TypeAdapter(Task)
PART: Final = TypeAdapter(Part)


def evaluate_part(
    evaluator: Evaluator | None,
    learner: Learner,
    task: Task,
    probes: Mapping[str, str],
    stopping: Callable[[], bool],
) -> Part:
    """Evaluate this rank's part of its ``probes``. Raises InvalidSetting unless they are rank 0's."""
    if evaluator is None or task.probes != probes:
        raise InvalidSetting("evaluation.probes: rank 0 has other probes than this rank")
    try:
        return Part(evaluator.tally(learner, task.full, stopping, task.classes))
    except Interrupted:
        return Part({}, interrupted=True)
    except DivergedLoss as error:
        return Part({}, diverged=str(error))


def joined_parts(parts: Iterable[Part]) -> dict[str, Reading]:
    """Return the results of which all ranks have a part. Raises Interrupted, DivergedLoss."""
    totals: dict[str, Tally] = {}
    for part in parts:
        if part.diverged:
            raise DivergedLoss(part.diverged)
        if part.interrupted:
            raise Interrupted
        for name, tally in part.tallies.items():
            totals[name] = totals.get(name, Tally()) + tally
    return {name: total.reading() for name, total in totals.items()}
