"""The training loop: each batch is predicted, learned and discarded; evaluations and checkpoints follow."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import torch

from lethe.drift.detector import BoundaryDetector
from lethe.drift.features import FeatureSums
from lethe.errors import DivergedLoss, LetheError, RankLost, StateNotSaved
from lethe.evaluation.evaluator import Evaluator, Interrupted
from lethe.evaluation.history import History
from lethe.events import (
    ClassesNamed,
    Emit,
    Evaluated,
    LabelsJoined,
    PartitionsAdded,
    RecordsUnlabelled,
    TopicRecreated,
)
from lethe.ingest.batcher import AcknowledgedDeadLetters, FilledBatch, Start
from lethe.ingest.feed import Batch, Feed
from lethe.ingest.messages import BrokerState
from lethe.learners.base import Learner
from lethe.learners.finite import FiniteCheck
from lethe.privacy.audit.receipt_writer import Receipts
from lethe.privacy.controls import Controls
from lethe.runtime.feed_events import FeedEvents
from lethe.runtime.labels import Labels
from lethe.runtime.persistence import CommitsOnly, Persistence
from lethe.runtime.predictions import Predicted, Predictions
from lethe.runtime.ranks.interface import LearnedElsewhere, Ranks
from lethe.runtime.segmentation import Segmentation
from lethe.runtime.step import Step, TrainingStep
from lethe.stream.source import Position

__all__ = ["Loop"]

WAIT_SECONDS: Final = 0.5
"""Longest wait for a batch, so that the loop notices soon that it should stop."""
FLUSH_SECONDS: Final = 2.0
"""How long predictions may take to be acknowledged before learning waits for them and says so."""
PURGE_SECONDS: Final = 2.0
"""How long a service that cannot wait for other consumers waits for its last records to be purged."""


@dataclass
class Loop:
    """Moves samples from the feed through the learner, each once, and emits what happened as events.

    ``stopping`` is called between batches and, during an evaluation, between chunks of a probe.
    ``persistence`` makes progress durable, by default with commits to the broker alone, and ``start`` is
    where the feed begins. ``controls`` say what a policy allows: under a residency bound no sample stays in
    the service during a full evaluation, which may take longer than the bound; the feed was started paused,
    and what it had read ahead is discarded and read again.

    ``detector`` finds boundaries in the stream, and the learner is notified of each between two batches;
    with ``oracle`` it is notified of the switches in the record headers instead, for comparison.

    A learner whose state is not ``finite`` is neither measured nor saved: the run ends.

    With ``commit_first`` the learner is measured only once a checkpoint of it is on the disk: nothing is
    published that a crash could have unlearned (see `lethe.learners.private.base`).

    No checkpoint is past a record whose prediction is not in the topic of ``predictions``: while these cannot
    be written, learning waits.

    ``labels`` say what labels are. Where names are collected, a class can be predicted from the batch after
    the one in which it first appeared.

    Other ``ranks`` learn their own batches while this one learns the feed's; they are counted after it.
    """

    feed: Feed
    learner: Learner
    evaluator: Evaluator | None
    evaluate_every: int
    history: History
    emit: Emit
    stopping: Callable[[], bool]
    persistence: Persistence | None = None
    receipts: Receipts = field(default_factory=Receipts)
    controls: Controls = field(default_factory=Controls)
    start: Start | None = None
    detector: BoundaryDetector | None = None
    oracle: bool = False
    finite: FiniteCheck | None = None
    commit_first: bool = False
    estimates: bool = False
    ranks: Ranks = field(default_factory=Ranks)
    predictions: Predictions = field(default_factory=Predictions)
    labels: Labels = field(default_factory=Labels)

    def __post_init__(self) -> None:
        self._finite = self.finite or FiniteCheck(self.learner)
        self._persistence = self.persistence or CommitsOnly(self.feed)
        self._feed_events = FeedEvents(self.emit, self.receipts)
        self._step = TrainingStep(
            self.learner,
            self.history,
            self.emit,
            self.detector,
            self.oracle,
            self.controls.publishes_prequential,
            self.predictions.wanted,
            self._boundary,
            self.estimates,
        )
        self._learning = False
        """Whether the feed delivers batches, outside of evaluations and waits."""
        self._classes = self.labels.names
        """The names of the classes so far; None where labels are numbers."""
        if self.start is not None:
            self.predictions.learns_from(self.start.position)
            if self._classes is not None:
                self._classes = self.start.position.classes or self._classes
        self._segmentation = Segmentation(self.history, self.emit, self.evaluate_every)

    def run(self, ended: bool = False) -> None:
        """Learn until ``stop_after`` is reached, the privacy budget is spent, or ``stopping`` returns true.

        ``ended`` means that ``stop_after`` was reached before a restart. Raises the LetheError that makes it
        impossible to continue.
        """
        self.rest()  # deadlines passed while the service was not running
        try:
            if self.history.latest() is None:
                self._evaluate(full=True)  # the untrained learner: row 0 of R
            ended = self._learn(self._step.privacy_spent() or ended)
            if ended:
                self._close_last_segment()
            self._finite.require()
        except Interrupted:
            pass  # asked to stop during an evaluation: the current batch is not learned and is read again
        except LetheError as error:
            if not isinstance(error, DivergedLoss | RankLost) and not self._finite.offenders():
                # otherwise a restart would begin with records that the broker may have deleted
                self._checkpoint(ends=True, patient=False)
            self._persistence.finish(self._position)
            raise
        self._checkpoint(ends=True)
        self._persistence.finish(self._position)
        self._await_purge(ended)

    def rest(self) -> None:
        """Meet the deadlines of kept samples, in memory and on the disk, while nothing is learned."""
        self._feed_events.report_status()
        if self._expire():
            self._checkpoint()
            self._delete_older_checkpoints()

    def _learn(self, ended: bool) -> bool:
        """Learn batch after batch until the stream has ``ended`` or the run should stop; return which."""
        if self.controls.evaluates_apart:
            self.feed.resume()
        self._learning = True
        while not (ended or self.stopping()):
            self._do_what_is_due()
            message = self.feed.next(WAIT_SECONDS)
            if isinstance(message, Batch):
                learned = self._turn(message)
                ended = self._step.privacy_spent() or (learned and self._at_end)
            elif isinstance(message, AcknowledgedDeadLetters):
                self._count_dead_letters(message)
            else:
                self._feed_events.handle(message, self.start)
                if isinstance(message, BrokerState) and message.start is not None:
                    self._save_beginning(message.start)
            self._feed_events.turned(self.feed.resident, self.learner.kept)
        self._learning = False
        return ended

    def _close_last_segment(self) -> None:
        """Measure what the stream ended with."""
        self._do_what_is_due()
        if due := self._segmentation.due_at_end():
            self._evaluate(full=True, ends_segment=bool(self.history.segments))
            self._segmentation.begin(due)
        if not self.history.closed:
            self._evaluate(full=True, ends_segment=bool(self.history.segments))

    def _save_beginning(self, start: Start) -> None:
        """Save a checkpoint at the start of a run, and before learning from added partitions or a new topic.

        A restart must not begin elsewhere, nor the rotation over partitions change at another record.
        """
        if self.start is not None and _is_other_topic(start.position, self.start.position):
            self.emit(TopicRecreated(self.start.position.ahead))
            dead = self._feed_events.discard_unsettled()
            self.receipts.recreated(start.position.offsets, dead)
        elif self.start is not None:
            added = start.position.offsets.keys() - self.start.position.offsets.keys()
            if not added and self.predictions.begun:
                return
            if added:
                self.emit(PartitionsAdded(tuple(sorted(added))))
        self.start = start
        self.predictions.learns_from(start.position)
        self._checkpoint()
        self._persistence.wait()

    def _count_dead_letters(self, acknowledged: AcknowledgedDeadLetters) -> None:
        """Count malformed records of an incomplete batch; a restart dead-letters none of them again."""
        self._feed_events.count_unsettled(acknowledged)
        if self.start is not None:
            position = replace(self.start.position, reported=acknowledged.reported)
            self.start = Start(position, self.start.left)

    def _turn(self, batch: Batch) -> bool:
        """Learn a batch and account for it; return false if it was discarded and will be read again."""
        if self._notices_switch(batch) and self.controls.evaluates_apart:
            return False
        self.ranks.start_round()
        before = self.history.samples
        known = len(self._classes or ()) if self.labels.collected else None
        unlabelled = self._step.predict_unlabelled(batch, known) if batch.filled.unlabelled else None
        step = self._step(batch, known) if batch.filled.samples else None
        learned = None if step is None else step.predicted
        if learned is not None or unlabelled is not None:
            self.predictions.add(batch.filled, _joined(learned, unlabelled), before)
        self._segmentation.learned()
        learned_at = time.monotonic()
        self.feed.release(batch)
        if batch.filled.passed:  # this rank may have no batch in a round
            self._account(batch.filled, learned_at, step)
        for elsewhere in self.ranks.end_round():
            self._account_elsewhere(elsewhere)
        return True

    def _account_elsewhere(self, elsewhere: LearnedElsewhere) -> None:
        """Account for a batch that another rank has learned."""
        learned, features = elsewhere.learned, None
        if learned is None:
            self._account(elsewhere.filled, time.monotonic(), None)
            return
        if elsewhere.features:
            features = FeatureSums.from_bytes(elsewhere.features, learned.samples)
        self._account(elsewhere.filled, learned.at, self._step.account(learned, features))

    def _account(self, filled: FilledBatch, learned_at: float, step: Step | None) -> None:
        """Account for a batch whose pixels are overwritten; learning is then at its end."""
        regimes = () if step is None else step.regimes
        self.receipts.discarded(filled, learned_at, self.history.samples, regimes)
        self._feed_events.account(filled)
        if filled.joined or filled.dropped_labels:
            self.emit(LabelsJoined(filled.joined, filled.dropped_labels))
        if filled.unlabelled:
            estimated = self.history.estimated.fading
            self.emit(RecordsUnlabelled(filled.unlabelled, learned_at - filled.arrived, estimated))
        if step is not None:
            self.emit(step.event)
        self._note_classes(filled.position.classes)
        self.start = Start(filled.position, filled.left)

    def _note_classes(self, names: tuple[str, ...]) -> None:
        """Note the names of all classes so far, and emit if there are new ones."""
        before = len(self._classes or ())
        if self.labels.collected and len(names) > before:
            self._classes = names
            self.emit(ClassesNamed(names, before))

    @property
    def _at_end(self) -> bool:
        """Whether the run's ``stop_after`` is reached."""
        return self.start is not None and self.start.left is not None and self.start.left <= 0

    def _expire(self) -> bool:
        """Make the learner delete samples whose time to live is over; return whether there were any."""
        if self.start is None:
            return False
        return self.receipts.expire(self.learner, self.history.samples, self.start.position)

    def _do_what_is_due(self) -> None:
        self._expire()
        self._write_predictions(all_of_them=False)
        every, samples = self.evaluate_every, self.history.samples
        if samples // every != self.history.evaluated_at // every and self.ranks.level:
            self._evaluate(full=False)
        if self._persistence.poll(self._position, samples) and self.ranks.level:
            self._checkpoint()

    def _notices_switch(self, batch: Batch) -> bool:
        """Close a segment before the next one's first batch is learned; return whether it was measured.

        Nothing is measured a second time unless something was learned since.
        """
        due = self._segmentation.due(batch.filled.segments)
        if not due:
            return False
        closes = (self._segment is not None or len(due) > 1) and not self.history.measured
        if closes:
            self._evaluate_apart()
        if self.oracle and self._segment is not None:
            self._boundary()
        self._segmentation.begin(due)
        if (
            closes and not self.stopping()
        ):  # otherwise the last one follows at once, and each may take seconds
            self._checkpoint()
        return closes

    def _boundary(self) -> None:
        """Notify the learner of a boundary, in every rank."""
        self.learner.boundary()
        self.ranks.boundary()

    @property
    def _segment(self) -> str | None:
        """The segment being learned."""
        return self.history.segments[-1] if self.history.segments else None

    @property
    def _position(self) -> Position | None:
        """Where learning is; None before the broker was reached for the first time."""
        return None if self.start is None else self.start.position

    def _evaluate_apart(self) -> None:
        """Measure the end of a segment; under a residency bound while no sample is in the service."""
        if self.controls.evaluates_apart:
            self.feed.pause(self.start)
        self._evaluate(full=True, ends_segment=self._segment is not None)
        if self.controls.evaluates_apart:
            self.feed.resume()

    def _evaluate(self, *, full: bool, ends_segment: bool = False) -> None:
        if self.evaluator is None:
            return
        self._finite.require(predicting=True)
        if self.commit_first and not self._saved():
            if not full:
                return  # the next turn tries again
            raise StateNotSaved(
                f"a checkpoint was not written, {self._persistence.failure}; {self.learner.name} publishes "
                "nothing before it is: free disk space and start again"
            )
        self.ranks.pool()
        started = time.perf_counter()
        readings = self.ranks.evaluate(self.evaluator, self.learner, full, self.stopping, self._classes)
        seconds = time.perf_counter() - started
        samples, visit = self.history.samples, len(self.history.segments)
        images = self.evaluator.images(full)
        kept = self.evaluator.feature_bytes
        event = Evaluated(samples, readings, full, visit, self._segment, ends_segment, seconds, images, kept)
        self.emit(event)
        self.emit(self.history.evaluated(event))

    def _saved(self) -> bool:
        """Write a checkpoint of all that is learned, if there is none; return whether it is on the disk."""
        if self.start is not None and not self._persistence.saved(self.history.samples):
            self._checkpoint()
            self._persistence.wait()
        return self.start is None or self._persistence.saved(self.history.samples)

    def _checkpoint(self, *, ends: bool = False, patient: bool = True) -> None:
        """Start writing a checkpoint, once every prediction is written; without patience, soon or not at all.

        At the end of a run it replaces the newest one if that holds as many samples: a service that is
        restarted again and again must not push out the older ones. Under a policy with deadlines it must.
        """
        # without a start, nothing was taken from the topic yet
        if self.start is not None and self._write_predictions(patient=patient):
            self.ranks.pool()
            replace_newest = ends and not self.receipts.has_deadlines
            self._persistence.save(
                self.start.position, self._feed_events.unsettled, replace_newest=replace_newest
            )

    def _write_predictions(self, *, all_of_them: bool = True, patient: bool = True) -> bool:
        """Wait until predictions are acknowledged; return false if the run should stop before that.

        Under a residency bound, no sample is in the service meanwhile. Without ``patient`` it returns soon.
        """
        if self.predictions.flush(FLUSH_SECONDS, all_of_them=all_of_them):
            self.predictions.waits("")
            return True
        if not patient:
            return False
        if self.controls.evaluates_apart:
            self.feed.pause(self.start)
        written = False
        while not (written or self.stopping()):
            self.predictions.waits(self.predictions.failure)
            self._feed_events.turned(self.feed.resident, self.learner.kept)
            written = self.predictions.flush(WAIT_SECONDS, all_of_them=all_of_them)
        if written:
            self.predictions.waits("")
        if self.controls.evaluates_apart and self._learning:
            self.feed.resume()
        return written

    def _await_purge(self, ended: bool) -> None:
        """If the policy purges, stay until the broker has deleted the learned records.

        Other consumers may still need them: at the end of the stream these are waited for until the
        policy's deadline, otherwise for a few seconds. A restart continues with the purge.
        """
        if not self.receipts.purges or self.start is None or self._persistence.failure:
            return
        self.feed.pause(self.start)  # nothing more is read
        if self._delete_older_checkpoints():
            self.feed.commit(self.start.position)
        began = time.monotonic()
        while (lag := self.receipts.purge_lag()).records:
            hurried = lag.overdue or not ended or self.stopping()
            if hurried and time.monotonic() - began > PURGE_SECONDS:
                break
            message = self.feed.next(WAIT_SECONDS)
            if not isinstance(message, Batch | AcknowledgedDeadLetters):  # these were read before the pause
                self._feed_events.handle(message, self.start)
            self._feed_events.turned(self.feed.resident, self.learner.kept)
        self._checkpoint()  # it holds the receipts of the purge
        self._persistence.finish(self._position)

    def _delete_older_checkpoints(self) -> bool:
        """Leave no older checkpoint than the newest; return whether that succeeded."""
        if not self._persistence.replace_older():
            return False
        self.receipts.only_newest_checkpoint_left()
        return True


def _joined(learned: Predicted | None, unlabelled: Predicted | None) -> Predicted:
    """Return the predictions of a whole batch, in the order of `FilledBatch.origins`."""
    both = [predicted for predicted in (learned, unlabelled) if predicted is not None]
    return Predicted(*(torch.cat(parts) for parts in zip(*both, strict=True)))


def _is_other_topic(position: Position, before: Position) -> bool:
    """Return whether two positions are in different topics of one name; needs a broker with topic ids."""
    ids = {position.topic_id, before.topic_id}
    return None not in ids and len(ids) > 1
