"""Rank 0: the rounds in which it and the ranks that follow it learn a batch each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from lethe.errors import RankLost
from lethe.evaluation.evaluator import Evaluator
from lethe.events import Emit, RankRound, Reading, RoundLearned
from lethe.learners.base import Learner
from lethe.learners.capabilities import Pools
from lethe.learners.state import JSON
from lethe.runtime.ranks.evaluation import PART, TASK, Task, evaluate_part, joined_parts
from lethe.runtime.ranks.group import Group
from lethe.runtime.ranks.interface import LearnedElsewhere, Ranks
from lethe.runtime.ranks.notes import Command, Note
from lethe.runtime.ranks.progress import Progress
from lethe.runtime.ranks.round_feed import RoundFeed
from lethe.runtime.ranks.round_times import RoundTimes

__all__ = ["Leader"]


class Leader(Ranks):
    """The other ranks as rank 0's loop sees them, which gets its batches from a `RoundFeed`.

    A round is one batch of each rank. The loop is passed rank 0's own, and counts the others' at the end of
    the round, in the order of the ranks: their positions are all in one, and so are their receipts. Between
    two rounds nothing is under way, so that what is then pooled, evaluated and saved is the whole.
    """

    def __init__(
        self,
        group: Group,
        learner: Pools,
        feed: RoundFeed,
        progress: Progress,
        times: RoundTimes,
        probes: Mapping[str, str],
        emit: Emit,
    ) -> None:
        """``probes`` are the SHA-256 of those that all ranks evaluate on."""
        self._group, self._learner, self._feed, self._progress = group, learner, feed, progress
        self._times, self._probes, self._emit = times, probes, emit
        self._collective_reported = self._collective_before = 0.0
        self._bytes_reported = 0
        self._in_round = False
        self._boundaries = 0  # of which the others are not notified yet
        self._pooled, self._others = True, 0
        learner.join(group)

    @property
    def stopping(self) -> bool:
        """Whether one of the other ranks was asked to stop."""
        return any(note.stop for note in self._feed.notes)

    @property
    def level(self) -> bool:
        """Whether all ranks hold the same, and not weights that are averaged some rounds later."""
        return self._learner.level

    def start_round(self) -> None:
        """Let every other rank learn the batch that it has ready."""
        self._times.wait_for((0,))
        if self._learner.refresh_due(self._others):
            self.pool()
            self._group.command(Command.SHARE)
            with self._group.waited_for():
                self._learner.share(refresh=True)
        self._group.send_command(Command.LEARN)
        self._in_round, self._pooled = True, False
        self._collective_before = self._group.collective_seconds
        self._times.begin_round()

    def end_round(self) -> Sequence[LearnedElsewhere]:
        """Wait until all have learned; return the other ranks' batches of the round, in their order."""
        if not self._feed.own_samples:
            self._learner.skip()
        learning, learned = 0.0, list[LearnedElsewhere]()

        def prepare() -> None:
            nonlocal learning
            self._feed.prepare()
            collective = self._group.collective_seconds - self._collective_before
            learning = self._times.elapsed - collective

        for rank, note in self._feed.answers(prepare):
            if note.learned is not None:
                self._others += note.learned.filled.samples
                learned.append(replace(note.learned, filled=self._progress.whole(note.learned.filled)))
            self._feed.take(rank, note)
        self._in_round = False
        self._report_round([Note(learning_seconds=learning), *self._feed.notes[1:]])
        self._notify()
        return learned

    def _report_round(self, notes: Sequence[Note]) -> None:
        """Emit what the ranks did in a round; rank 0's own note has its seconds alone."""
        seconds = self._times.elapsed
        waited_for = self._times.end_round([note.learning_seconds for note in notes])
        collective = self._group.collective_seconds - self._collective_reported
        self._collective_reported = self._group.collective_seconds
        moved = self._group.collective_bytes - self._bytes_reported
        self._bytes_reported = self._group.collective_bytes
        others = [note.learned.filled.samples if note.learned else 0 for note in notes[1:]]
        samples = [self._feed.own_samples, *others]
        self._emit(
            RoundLearned(
                seconds,
                [
                    RankRound(
                        samples=samples[rank],
                        lag=self._progress.lag(rank),
                        learning_seconds=note.learning_seconds,
                        collective_seconds=note.collective_seconds if rank else collective,
                        waited_for_seconds=waited_for[rank],
                    )
                    for rank, note in enumerate(notes)
                ],
                moved,
            )
        )

    def boundary(self) -> None:
        """Let the other ranks' learners be notified of a boundary, at the latest at the end of the round."""
        self._boundaries += 1
        if not self._in_round:
            self._notify()

    def _notify(self) -> None:
        for _ in range(self._boundaries):
            self._group.command(Command.BOUNDARY)
        self._boundaries = 0

    def pool(self) -> None:
        """Let this rank's learner hold what all have learned. Raises RankLost within a round."""
        if self._in_round:
            raise RankLost("a round was interrupted: what the others learned in it is not known")
        if not self._pooled:
            self._group.command(Command.POOL)
            self._learner.pool()
            self._pooled, self._others = True, 0

    def evaluate(
        self,
        evaluator: Evaluator,
        learner: Learner,
        full: bool,
        stopping: Callable[[], bool],
        classes: Sequence[str] | None,
    ) -> dict[str, Reading]:
        """Let every rank predict its part of the probes' images; return the results on all of them.

        Raises Interrupted, DivergedLoss.
        """
        task = Task(full, classes, self._probes)
        self._group.command(Command.EVALUATE)
        self._group.broadcast_bytes(TASK.dump_json(task))
        with self._group.waited_for():
            self._learner.share_solution()
        self._times.wait_for(())  # all of them have something to do
        own = evaluate_part(evaluator, learner, task, self._probes, stopping)
        others = [PART.validate_json(part) for part in self._group.gather(b"")[1:]]
        self._times.wait_for((0,))
        return joined_parts([own, *others])

    def snapshot(self) -> JSON:
        """Return what a checkpoint stores of the ranks; None before the broker was reached."""
        return self._progress.to_json()

    def finish(self) -> None:
        """Let the other ranks end, with status 0."""
        self._group.command(Command.FINISH)
