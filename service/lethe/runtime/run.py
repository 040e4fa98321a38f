"""The composition root of one run: the only module that names the concrete classes and connects them."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, cast

from lethe.checkpointing.checkpoint import Checkpoint, OnStep, ignore_step
from lethe.checkpointing.checkpointer import Checkpointer
from lethe.errors import DivergedLoss, InvalidSetting, LetheError, StateNotSaved
from lethe.evaluation.boundary_scores import BoundaryScoring
from lethe.evaluation.history import History
from lethe.events import ClassesNamed, Emit, Event, LoopTurned
from lethe.ingest.batcher import Start
from lethe.ingest.broker_monitor import BrokerMonitor
from lethe.ingest.feed import Feed
from lethe.ingest.origins import TRACE_HEADERS
from lethe.ingest.reader_process import SPAWN, ProcessContext, ReaderProcess
from lethe.learners.base import Learner
from lethe.learners.capabilities import Pools
from lethe.learners.finite import FiniteCheck
from lethe.learners.private.base import PrivateLearner
from lethe.learners.registry import find
from lethe.observability.log import log_event
from lethe.observability.metrics import Metrics
from lethe.observability.peak_memory import peak_rss_bytes_of
from lethe.observability.result import RunResult
from lethe.observability.run_state import RunState
from lethe.observability.startup import StartupTimer, age
from lethe.privacy.audit.receipt_writer import Receipts, open_receipts
from lethe.privacy.audit.witness import NoWitness, Witness, open_witness
from lethe.privacy.controls import Controls, load_controls
from lethe.privacy.status import PolicyStatus
from lethe.probeset import ProbeSet
from lethe.runtime.factories import (
    build_labels,
    create_detector,
    create_evaluator,
    create_learner,
    create_registry,
    export_reader_processes,
    load_probes,
    with_learners_defaults,
)
from lethe.runtime.feed_events import FeedEvents
from lethe.runtime.labels import Labels, load_labels
from lethe.runtime.loop import Loop
from lethe.runtime.persistence import Checkpoints, CommitsOnly, Publisher
from lethe.runtime.predictions import Predictions, TopicPredictions
from lethe.runtime.ranks.group import Group
from lethe.runtime.ranks.interface import Ranks
from lethe.runtime.ranks.leader import Leader
from lethe.runtime.ranks.progress import Progress
from lethe.runtime.ranks.reading import Reading
from lethe.runtime.ranks.round_feed import RoundFeed
from lethe.runtime.ranks.round_times import RoundTimes
from lethe.runtime.resume import restore, take_checkpoint
from lethe.runtime.signals import StopRequest, stop_signals
from lethe.runtime.snapshot import StateSnapshots
from lethe.runtime.storage import Storage, open_state_folder
from lethe.settings import Settings
from lethe.stream.prediction_topic import PredictionTopic
from lethe.stream.purge import Sharing
from lethe.stream.source import Position
from lethe.web.app import create_app
from lethe.web.auth import read_token
from lethe.web.predict import BODY_SECONDS, PredictEndpoint
from lethe.web.prediction_worker import PredictionWorker
from lethe.web.predictor_snapshots import PredictorSnapshots
from lethe.web.rejected_requests import RejectedRequests
from lethe.web.security import AllowedHosts
from lethe.web.server import Server

__all__ = ["Inputs", "load_inputs", "run_inputs", "run_service"]

logger = logging.getLogger("lethe")

REST_SECONDS: Final = 1.0
"""How often a service whose stream has ended checks its deadlines and the broker."""


def run_service(
    settings: Settings,
    on_step: OnStep = ignore_step,
    processes: ProcessContext = SPAWN,
    group: Group | None = None,
) -> RunResult:
    """Learn from the stream until it ends or a signal asks to stop, and return the result.

    ``on_step`` is called after each step of writing a checkpoint; ``processes`` start the reader process.
    With a ``group``, the service leads the other ranks in it (`lethe.runtime.ranks`).
    Raises the LetheError that makes it impossible to start or to continue.
    """
    import_seconds = age()
    return run_inputs(load_inputs(settings), on_step, processes, group, import_seconds=import_seconds)


def run_inputs(
    inputs: "Inputs",
    on_step: OnStep = ignore_step,
    processes: ProcessContext = SPAWN,
    group: Group | None = None,
    *,
    import_seconds: float = 0.0,
    on_event: Emit | None = None,
) -> RunResult:
    """Do the same with inputs that are loaded; ``on_event`` is called last with each event."""
    settings = inputs.settings
    if group is None and (rounds := settings.run.average_every) > 1:
        raise InvalidSetting(
            f"run.average_every {rounds}: there are no ranks whose weights could be averaged"
        )
    with (
        open_state_folder(settings) as folder,
        open_witness(
            settings.privacy.witness, settings.stream, None if folder is None else folder.identity
        ) as witness,
        stop_signals() as stop,
    ):
        storage = Storage.load(folder, settings, inputs.finite)
        if group is None:
            storage.require_single()
        inputs.controls.check_folder(folder, type(inputs.learner))
        service = Service(inputs, storage, witness, stop, import_seconds, group, on_event)
        return service.run(on_step, processes)


@dataclass(frozen=True)
class Inputs:
    """Everything that a run is made from, loaded and checked before anything is opened."""

    settings: Settings
    """Within the bounds of the policy, if there is one."""
    controls: Controls
    probes: list[ProbeSet]
    learner: Learner
    finite: FiniteCheck
    labels: Labels
    token: str | None
    """What HTTP requests have to present; None if they need not."""


def load_inputs(settings: Settings) -> Inputs:
    """Load and check everything that a run is made from. Raises InvalidSetting, InvalidFile."""
    settings = with_learners_defaults(settings)
    if settings.run.report is not None:
        settings.run.report.mkdir(parents=True, exist_ok=True)  # fail here, not after hours of learning
    token = read_token(settings.serve.token_file) if settings.serve.token_file else None
    controls = load_controls(settings.privacy)
    settings, labels = load_labels(settings)
    probes = load_probes(settings.evaluation, settings.sample, labels)
    settings = controls.apply(settings, find(settings.learner.name), probes)
    learner = create_learner(settings.learner, settings.sample, settings.batch.size)
    if settings.checkpoint.folder is not None and not learner.resumable:
        raise InvalidSetting(
            f"learner.name {learner.name}: its state cannot be written without pickle, so it has no "
            "checkpoints: leave checkpoint.folder (--state) out; a restart then begins from scratch"
        )
    if isinstance(learner, PrivateLearner) and not learner.secret:
        logger.warning(
            "learner %s draws its noise from seed %d, and anyone who knows the seed can subtract it: nothing "
            "is private and ε is simulated; use --option noise=secret for real privacy",
            learner.name,
            settings.learner.seed,
        )
    if settings.stream.predictions_topic and _secretly_private(learner) is not None:
        raise InvalidSetting(
            f"stream.predictions_topic: learner {learner.name} with secret noise publishes nothing before a "
            "checkpoint of it is on the disk, and a prediction is made with every batch"
        )
    controls.protect_process()
    return Inputs(settings, controls, probes, learner, FiniteCheck(learner), labels, token)


class Service:
    """One run: its learner, its measurements, and everything that shows them.

    Building it restores the run from ``storage``; `run` then learns, reports, and serves.
    """

    def __init__(
        self,
        inputs: Inputs,
        storage: Storage,
        witness: Witness | NoWitness,
        stop: StopRequest,
        import_seconds: float,
        group: Group | None = None,
        on_event: Emit | None = None,
    ) -> None:
        self._group, self._on_event = group, on_event
        settings, learner, controls = inputs.settings, inputs.learner, inputs.controls
        self._inputs, self._storage, self._stop = inputs, storage, stop
        self._settings, self._learner, self._controls = settings, learner, controls
        self._private = _secretly_private(learner)
        self._commit_first = storage.folder is not None and self._private is not None
        self._history = _load_history(inputs, storage)
        self._detector = create_detector(settings.drift, storage.drift, controls, type(learner))
        names = inputs.labels.shown(inputs.probes)
        self._retention = learner.retention(settings.sample, settings.learner.options)
        hashes = {probe.name: probe.sha256 for probe in inputs.probes}
        self._run_state = RunState(
            settings, type(learner), self._history, class_names=names, probe_hashes=hashes
        )
        self._registry = create_registry()
        self._snapshots = PredictorSnapshots(
            learner,
            finite=inputs.finite,
            commit_first=self._commit_first,
            restrict=len(names) if inputs.labels.collected else None,
        )
        self._enforcer = controls.create_enforcer(self._emit)
        self._policy_status = PolicyStatus(controls)
        self._subscribers = self._create_subscribers(import_seconds)
        self._restore()
        self._receipts = self._open_receipts(witness)
        self._publisher = Publisher(self._receipts, storage)
        self._predictions = self._create_predictions()

    def run(self, on_step: OnStep, processes: ProcessContext) -> RunResult:
        """Learn until the stream ends or the run should stop, write the report, and serve if configured."""
        predictions = PredictionWorker(self._snapshots, self._settings.sample)
        server = self._create_server(predictions)
        if (labels := self._settings.labels).topic:
            logger.info("records without a label wait up to %g s for one from %s", labels.wait, labels.topic)
        with predictions, server, self._open_checkpointer(on_step) as checkpointer:
            with self._open_feed(processes) as (feed, start, ranks):
                loop = self._create_loop(feed, start, checkpointer, ranks)
                try:
                    self._learn(loop)
                finally:
                    self._predictions.close()
                ranks.finish()
            self._emit(LoopTurned(feed.resident, self._learner.kept))
            result = self._run_state.result()
            _write_report(result, self._settings.run.report)
            if self._settings.serve.keep and not loop.stopping():
                logger.info("the run has ended; serving until SIGTERM or Ctrl-C")
                self._rest(loop)
        self._enforcer.raise_if_stopped()
        if checkpointer is not None and checkpointer.failure:
            raise StateNotSaved(
                f"the last checkpoint was not written, {checkpointer.failure}; "
                "a restart learns again from the one before"
            )
        return result

    def _create_subscribers(self, import_seconds: float) -> list[Emit]:
        """Return everything that handles the run's events, in the order in which it does."""
        subscribers: list[Emit] = [
            Metrics(
                self._registry,
                self._settings.sample.nbytes,
                build_labels(self._learner, self._retention),
                self._run_state.class_names,
            ),
            self._run_state,  # after the metrics: a scrape has what GET /state showed before it
            log_event,
            self._snapshots,
            StartupTimer(self._emit, import_seconds),
        ]
        if self._detector is not None:  # without a detector no boundary can be missed
            subscribers.append(BoundaryScoring(self._history, self._emit))
        subscribers += [self._enforcer, self._policy_status]
        return subscribers if self._on_event is None else [*subscribers, self._on_event]

    def _emit(self, event: Event) -> None:
        for subscriber in self._subscribers:
            subscriber(event)

    def _restore(self) -> None:
        """Restore the learner and every subscriber from the checkpoint."""
        for event in self._storage.unreadable:
            self._emit(event)
        checkpoint = self._storage.checkpoint
        if checkpoint is None:
            return
        if self._inputs.labels.collected:
            names = checkpoint.position.classes
            self._emit(ClassesNamed(names, len(names), resumed=True))
        restore(checkpoint, self._learner, self._history, self._emit)
        if checkpoint.timing is not None:
            self._run_state.resume_timing(cast("dict[str, Any]", checkpoint.timing))
        self._storage.release_tensors()

    def _open_receipts(self, witness: Witness | NoWitness) -> Receipts:
        """Continue the ledger, emit its head, and charge the privacy of batches that are learned again."""
        receipts = open_receipts(
            self._storage.folder,
            self._settings.stream.topic,
            self._retention,
            self._controls,
            self._storage.checkpoint,
            self._controls.time_to_live(type(self._learner), self._settings.checkpoint),
            witness,
        )
        batches = sum(receipts.unlearned)
        if batches and self._private is not None:
            self._private.record_rollback(batches, len(receipts.unlearned))
            logger.warning(
                "%d learned batches are released a second time, because the checkpoints that held them are "
                "gone: this costs their records the same privacy again",
                batches,
            )
        for event in receipts.status():
            self._emit(event)
        return receipts

    def _create_predictions(self) -> Predictions:
        stream, checkpoint = self._settings.stream, self._storage.checkpoint
        if not stream.predictions_topic:
            return Predictions()
        since = None if checkpoint is None else checkpoint.predictions
        return TopicPredictions(
            PredictionTopic(stream, cast("dict[str, Any] | None", since)),
            stream.topic,
            self._learner.name,
            lambda: self._run_state.class_names,
            self._emit,
        )

    def _create_server(self, predictions: PredictionWorker) -> Server:
        serve, residency = self._settings.serve, self._controls.residency_seconds
        rejected = RejectedRequests(self._registry)
        predict = PredictEndpoint(
            predictions,
            self._learner.name,
            self._settings.sample,
            serve.max_body_bytes,
            BODY_SECONDS if residency is None else min(BODY_SECONDS, residency),
            lambda: self._run_state.class_names,
        )
        app = create_app(
            self._run_state,
            self._registry,
            version("lethe"),
            self._policy_status,
            predict,
            self._inputs.token,
            rejected,
        )
        hosts = AllowedHosts([serve.host, *filter(None, map(str.strip, serve.hosts.split(",")))])
        server = Server(app, serve.host, serve.port, hosts=hosts, on_rejected=rejected)
        if server.public and self._inputs.token is None:
            logger.warning(
                "serve.host %s is reachable from other machines and serve.token_file is not set: anyone who "
                "reaches port %s can read the run and request predictions",
                serve.host,
                server.address.rpartition(":")[2],
            )
        return server

    @contextmanager
    def _open_checkpointer(self, on_step: OnStep) -> Iterator[Checkpointer | None]:
        folder = self._storage.folder
        if folder is None:
            yield None
            return
        checkpointer = Checkpointer(
            folder, self._settings.checkpoint, self._emit, self._publisher, on_step, self._storage.samples
        )
        try:
            yield checkpointer
        finally:
            checkpointer.close()

    @contextmanager
    def _open_feed(self, processes: ProcessContext) -> Iterator[tuple[Feed, Start | None, Ranks]]:
        """Start the reader process, and export its metrics; yield it and where learning continues.

        While it is open, the positions of published checkpoints are committed through it.
        """
        reader: ReaderProcess | RoundFeed
        opened: tuple[Feed, Start | None, Ranks]
        if self._group is None:
            start = self._storage.start(self._settings.stream.stop_after)
            reader = self._start_reader(start, processes)
            opened = (reader, start, Ranks())
        else:
            reader, start, leader = self._lead(self._group, processes)
            opened = (reader, start, leader)
        try:
            with (
                self._publisher.committing_to(reader),
                export_reader_processes(self._registry, lambda: reader.pids),
            ):
                yield opened
        finally:
            self._run_state.readers_peak_rss_bytes = peak_rss_bytes_of(reader.pids)
            reader.close()

    def _start_reader(self, start: Start | None, processes: ProcessContext) -> ReaderProcess:
        settings, storage, controls = self._settings, self._storage, self._controls
        position = None if start is None else start.position
        left = settings.stream.stop_after if start is None else start.left
        return ReaderProcess(
            settings.stream.model_copy(update={"stop_after": left}),
            settings.batch,
            settings.sample,
            position,
            controls.residency_seconds,
            controls.evaluates_apart,
            Sharing(storage.identity, storage.earliest_position(position), controls.purges),
            processes,
            segments=controls.segment_names(self._inputs.probes),
            dead_letter_key=storage.dead_letter_key(),
            origin_headers=self._origin_headers(),
            names=self._inputs.labels.names,
            unlabelled=settings.labels.unlabelled == "predict",
            late=settings.labels if settings.labels.topic else None,
        )

    def _origin_headers(self) -> Sequence[str] | None:
        """Return the headers that predictions quote; None if none are made."""
        if not self._predictions.wanted:
            return None
        return TRACE_HEADERS if self._controls.keeps_segment_names else ()

    def _lead(self, group: Group, processes: ProcessContext) -> tuple[RoundFeed, Start | None, Leader]:
        if not isinstance(self._learner, Pools):
            raise TypeError(f"{self._learner.name} cannot learn with other ranks, and was accepted")
        settings, storage, controls = self._settings, self._storage, self._controls
        segments = controls.segment_names(self._inputs.probes)
        resumed = None if storage.checkpoint is None else storage.checkpoint.position
        progress = Progress(settings.stream, group.size, resumed, storage.shares())
        times = RoundTimes(group.size)
        feed = RoundFeed(
            group,
            self._learner,
            Reading(settings, group.rank, group.size, controls, segments, processes),
            settings,
            progress,
            times,
            Sharing(storage.identity, storage.earliest_position(resumed), controls.purges),
            storage.dead_letter_key(),
            self._history.tracker.run,
            detects=self._detector is not None,
            paused=controls.evaluates_apart,
        )
        hashes = {probe.name: probe.sha256 for probe in self._inputs.probes}
        leader = Leader(group, self._learner, feed, progress, times, hashes, self._emit)
        if (rounds := settings.run.average_every) > 1:
            self._learner.average_every(rounds)
        self._learner.share(refresh=False)  # an evaluation can be due before anything is read
        return feed, progress.start, leader

    def _create_loop(
        self, feed: Feed, start: Start | None, checkpointer: Checkpointer | None, ranks: Ranks
    ) -> Loop:
        states = StateSnapshots()

        def take(position: Position, unsettled: Mapping[str, int]) -> Checkpoint:
            self._snapshots.hold()
            return take_checkpoint(
                self._settings,
                self._learner,
                self._history,
                self._run_state,
                self._receipts,
                position,
                unsettled,
                self._detector,
                states,
                ranks.snapshot(),
                self._predictions.snapshot(position),
            )

        finite, group = self._inputs.finite, self._group
        rank, size = (0, 1) if group is None else (group.rank, group.size)
        return Loop(
            feed=feed,
            learner=self._learner,
            evaluator=create_evaluator(self._inputs.probes, self._settings, rank, size),
            evaluate_every=self._settings.evaluation.every,
            history=self._history,
            emit=self._emit,
            stopping=lambda: self._stop.is_set() or self._enforcer.must_stop or ranks.stopping,
            persistence=(
                CommitsOnly(feed) if checkpointer is None else Checkpoints(checkpointer, take, finite)
            ),
            receipts=self._receipts,
            controls=self._controls,
            start=start,
            detector=self._detector,
            oracle=self._settings.drift.oracle,
            finite=finite,
            commit_first=self._commit_first,
            estimates=self._settings.evaluation.estimate,
            ranks=ranks,
            predictions=self._predictions,
            labels=self._inputs.labels,
        )

    def _learn(self, loop: Loop) -> None:
        """Run the loop; if it fails, write the report of what was learned before."""
        try:
            loop.run(ended=loop.start is not None and loop.start.left == 0)
        except LetheError as error:
            self._emit(LoopTurned(loop.feed.resident, self._learner.kept))
            _write_failed_report(self._run_state.result(), self._settings.run.report, error)
            if isinstance(error, DivergedLoss):
                recovery = self._storage.recovery()
                raise DivergedLoss(f"the learner diverged: {error}; {recovery}") from error
            raise

    def _rest(self, loop: Loop) -> None:
        """Meet the deadlines of what is kept until the operator or the policy stops the service.

        The broker is still monitored, so that its status stays current; a run that had ended before a
        restart has not reached it yet.
        """
        feed_events = FeedEvents(self._emit, self._receipts)
        with BrokerMonitor(self._settings.stream) as broker:
            while not (self._stop.wait(REST_SECONDS) or loop.stopping()):
                loop.rest()
                for state in broker.states():
                    feed_events.handle(state, loop.start)
                # alive, although there is nothing to learn
                self._emit(LoopTurned(loop.feed.resident, self._learner.kept))


def _secretly_private(learner: Learner) -> PrivateLearner | None:
    """Return ``learner`` if it is differentially private and its noise is secret."""
    return learner if isinstance(learner, PrivateLearner) and learner.secret else None


def _load_history(inputs: Inputs, storage: Storage) -> History:
    """Return the history to continue, without what the policy withholds but an older checkpoint contains."""
    history = storage.history(inputs.probes, inputs.settings.evaluation)
    if not inputs.controls.publishes_prequential:
        history.withhold_prequential()
    if not inputs.controls.keeps_segment_names:
        history.withhold_names()
    return history


def _write_report(result: RunResult, folder: Path | None) -> None:
    if folder is None:
        return
    from lethe.report import write_report  # plotly is slow to import and needed only here

    result.write(folder / "run.json")
    write_report([result], folder / "report.html")
    logger.info("wrote %s and %s", folder / "run.json", folder / "report.html")


def _write_failed_report(result: RunResult, folder: Path | None, error: LetheError) -> None:
    try:
        _write_report(result.model_copy(update={"failure": str(error)}), folder)
    except OSError as other:  # it must not hide why the run failed
        logger.warning("no report was written: %s", other)
