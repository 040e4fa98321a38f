"""The interface between the loop and the other ranks; a service that learns alone has none."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pydantic import Base64Bytes

from lethe.evaluation.evaluator import Evaluator
from lethe.events import Reading
from lethe.ingest.batcher import FilledBatch
from lethe.learners.base import Learner
from lethe.learners.state import JSON
from lethe.runtime.step import LearnedBatch

__all__ = ["LearnedElsewhere", "Ranks"]


@dataclass(frozen=True, slots=True)
class LearnedElsewhere:
    """A batch that another rank read, and what it learned of it."""

    filled: FilledBatch
    learned: LearnedBatch | None
    """None if every record was malformed."""
    features: Base64Bytes = b""
    """`lethe.drift.features.FeatureSums` as bytes; empty if nobody looks for boundaries."""

    def on_clock(self, offset: float) -> "LearnedElsewhere":
        """Return it with times of another monotonic clock, which shows ``offset`` seconds more."""
        filled, learned = self.filled, self.learned
        return replace(
            self,
            filled=replace(filled, arrived=filled.arrived + offset),
            learned=None if learned is None else replace(learned, at=learned.at + offset),
        )


class Ranks:
    """The other ranks of a service that learns alone: there are none.

    `lethe.runtime.ranks.leader.Leader` overrides every method, so the loop never asks whether there are any.
    """

    @property
    def stopping(self) -> bool:
        """Whether another rank was asked to stop."""
        return False

    @property
    def level(self) -> bool:
        """Whether measuring or saving now changes nothing of what is learned later; soon it will be so."""
        return True

    def start_round(self) -> None:
        """Let every other rank learn the batch that it has ready, while this one learns its own."""

    def end_round(self) -> Sequence[LearnedElsewhere]:
        """Wait until all have learned; return the other ranks' batches of the round, in their order."""
        return ()

    def boundary(self) -> None:
        """Let the other ranks' learners be notified of a boundary, at the latest at the end of the round."""

    def pool(self) -> None:
        """Let this rank's learner hold what all have learned. Between two rounds only."""

    def evaluate(
        self,
        evaluator: Evaluator,
        learner: Learner,
        full: bool,
        stopping: Callable[[], bool],
        classes: Sequence[str] | None,
    ) -> dict[str, Reading]:
        """Return the result on each probe, of which every rank predicts a part: `Evaluator.evaluate`.

        After a `pool`, and raises the errors of `Evaluator.tally`.
        """
        return evaluator.evaluate(learner, full, stopping, classes)

    def snapshot(self) -> JSON:
        """Return what a checkpoint stores of the ranks; None for a service that learns alone."""
        return None

    def finish(self) -> None:
        """Let the other ranks end, with status 0."""
