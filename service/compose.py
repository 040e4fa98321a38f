"""The composition root of one run: names the concrete classes, and puts them together."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, cast

from service.batching import Start
from service.checkpoint import At, Checkpoint, ignore
from service.checkpointer import Checkpointer
from service.copies import Copies
from service.errors import InvalidSetting, PolicyBroken, StateNotKept
from service.evaluation.history import History
from service.events import CheckpointUnreadable, Emit, Event, Turned
from service.feed import SPAWN, FeederProcess, Processes
from service.forgetful import leave_no_core
from service.journal import Journal
from service.judgement import Judgement
from service.learners.base import State
from service.log import log_event
from service.loop import Loop
from service.metrics import Metrics
from service.parts import (
    build_labels,
    create_evaluator,
    create_learner,
    create_registry,
    create_watch,
    export_feeder,
    load_probes,
)
from service.prediction import Predictions, Snapshots
from service.privacy.budget import within_budget
from service.privacy.guard import Guard, held_to, time_to_live
from service.privacy.leftovers import check_leftovers
from service.privacy.policy import Policy, load_policy
from service.privacy.receipts import Receipts, open_receipts
from service.privacy.standing import Standing
from service.probeset import ProbeSet
from service.result import RunResult
from service.resume import check_fingerprint, restore, resumed, run_id, take
from service.settings import Settings
from service.signals import stop_signals
from service.startup import Startup, age
from service.state_folder import StateFolder
from service.stream.purge import Sharing
from service.web.app import create_app
from service.web.predict import Predict
from service.web.server import Server
from service.web.token import read_token

__all__ = ["run_service"]

logger = logging.getLogger("lethe")

REST_SECONDS: Final = 1.0
"""How often a service whose stream has ended looks after what it keeps."""


def run_service(settings: Settings, at: At = ignore, processes: Processes = SPAWN) -> RunResult:
    """Learn from the stream until it ends or a signal asks to stop, and return what came of it.

    ``at`` is told each step of the checkpoints' protocol, ``processes`` start the feeder. Raises the
    LetheError that makes starting, or going on, impossible.
    """
    imported = age()
    if settings.run.report is not None:
        settings.run.report.mkdir(parents=True, exist_ok=True)  # refused now, not after hours of learning
    token = read_token(settings.serve.token_file) if settings.serve.token_file else None
    policy = load_policy(settings.privacy.policy) if settings.privacy.policy else None
    probes = load_probes(settings.evaluation, settings.sample)
    if policy is not None:
        settings = within_budget(policy, settings)
    learner = create_learner(settings.learner, settings.sample)
    if policy is not None:
        settings = held_to(policy, settings, type(learner), probes)
        leave_no_core()
    with _state_folder(settings) as folder, stop_signals() as stop:
        unreadable: list[CheckpointUnreadable] = []
        checkpoint = _newest(folder, settings, unreadable)
        if policy is not None and folder is not None:
            check_leftovers(policy, folder.folder)
        history = _history(checkpoint, probes, settings.evaluation.window)
        drift = None if checkpoint is None else checkpoint.drift
        watch = create_watch(settings.drift, drift, policy, type(learner))
        journal = Journal(settings, type(learner), history)
        registry = create_registry()
        metrics = Metrics(registry, settings.sample.size, build_labels(learner))
        snapshots = Snapshots(learner)
        subscribers: list[Emit] = [journal, metrics, log_event, snapshots]

        def emit(event: Event) -> None:
            for subscriber in subscribers:
                subscriber(event)

        subscribers.append(Startup(emit, imported))
        if watch is not None:  # what is not looked for cannot be missed
            subscribers.append(Judgement(history, emit))
        guard = None if policy is None else Guard(policy, emit)
        if guard is not None:
            subscribers.append(guard)
        for event in unreadable:
            emit(event)
        if checkpoint is not None:
            restore(checkpoint, learner, history, emit)
            if checkpoint.timing is not None:
                journal.go_on(cast("dict[str, Any]", checkpoint.timing))
            # its tensors are those of a file, which the disk could not let go of as long as they are held
            checkpoint = replace(checkpoint, learner=State({}, {}), random={})
        ttl = None if policy is None else time_to_live(policy, type(learner), settings.checkpoint)
        receipts = open_receipts(folder, settings.stream.topic, learner.retains, policy, checkpoint, ttl)
        standing = Standing(policy, lambda: None if receipts is None else receipts.mark)
        subscribers.append(standing)
        predictions = Predictions(snapshots, settings.sample)
        predict = Predict(predictions, learner.name, settings.sample, settings.serve.max_body_bytes)
        app = create_app(journal, registry, version("lethe"), standing, predict, token)
        with predictions, Server(app, settings.serve.host, settings.serve.port):
            feeding = _feed(settings, policy, folder, checkpoint, processes)
            with feeding as (feed, start), export_feeder(registry, feed.pid):
                loop = Loop(
                    feed=feed,
                    learner=learner,
                    evaluator=create_evaluator(probes, settings),
                    evaluate_every=settings.evaluation.every,
                    history=history,
                    emit=emit,
                    stopping=lambda: stop.is_set() or (guard is not None and guard.stop),
                    take=partial(
                        take, settings, learner, history, journal, receipts, watch=watch, copies=Copies()
                    ),
                    receipts=receipts,
                    start=start,
                    apart=policy is not None and policy.residency_seconds is not None,
                    watch=watch,
                    oracle=settings.drift.oracle,
                )
                publish = partial(_publish, feed, folder, receipts)
                with _checkpointer(folder, settings, emit, publish, at, checkpoint) as loop.checkpointer:
                    loop.run(ended=start is not None and start.left is not None and start.left <= 0)
            emit(Turned(feed.resident, learner.kept))
            result = journal.result()
            _leave_behind(result, settings.run.report)
            if settings.serve.keep and not loop.stopping():
                logger.info("the run has ended; serving until SIGTERM or Ctrl-C")
                _rest(
                    loop,
                    stop,
                    _checkpointer(folder, settings, emit, partial(_note, receipts), at, checkpoint),
                )
            if guard is not None and guard.stop and guard.violation is not None:
                raise PolicyBroken(f"policy {guard.name}, {guard.violation.rule}: {guard.violation.detail}")
            if loop.checkpointer is not None and loop.checkpointer.failure:
                raise StateNotKept(
                    f"the last checkpoint was not written, {loop.checkpointer.failure}; "
                    "a restart learns again from the one before"
                )
    return result


def _rest(
    loop: Loop, stop: threading.Event, checkpointing: AbstractContextManager[Checkpointer | None]
) -> None:
    """Look after what is kept until somebody, or the policy, wants the service to stop."""
    failure = "" if loop.checkpointer is None else loop.checkpointer.failure
    with checkpointing as loop.checkpointer:
        if loop.checkpointer is not None:
            loop.checkpointer.failure = failure  # until a newer one is on the disk
        while not (stop.wait(REST_SECONDS) or loop.stopping()):
            loop.rest()
            loop.emit(Turned(loop.feed.resident, loop.learner.kept))  # alive, though it has nothing to learn


def _note(receipts: Receipts | None, checkpoint: Checkpoint) -> None:
    if receipts is not None:
        receipts.on_disk(checkpoint)


def _publish(
    feed: FeederProcess, folder: StateFolder | None, receipts: Receipts | None, checkpoint: Checkpoint
) -> None:
    """Let the ledger and the broker know what is safe on the disk."""
    _note(receipts, checkpoint)
    feed.commit(checkpoint.position, None if folder is None else folder.fallback(checkpoint.position))


def _leave_behind(result: RunResult, folder: Path | None) -> None:
    if folder is None:
        return
    from service.report import write_report  # plotly is slow to import, and only now needed

    result.write(folder / "run.json")
    write_report([result], folder / "report.html")
    logger.info("wrote %s and %s", folder / "run.json", folder / "report.html")


@contextmanager
def _state_folder(settings: Settings) -> Iterator[StateFolder | None]:
    wanted = settings.checkpoint
    if wanted.folder is None:
        logger.warning("no --state folder: after a restart, learning begins anew")
        yield None
        return
    with StateFolder(wanted.folder, wanted.keep) as folder:
        if wanted.fresh:
            folder.begin_anew(run_id(settings))
        else:
            folder.go_on()
        yield folder


def _newest(
    folder: StateFolder | None, settings: Settings, unreadable: list[CheckpointUnreadable]
) -> Checkpoint | None:
    if folder is None:
        return None
    anew = run_id(settings) if settings.checkpoint.fresh else None
    checkpoint = folder.newest(lambda _, error: unreadable.append(CheckpointUnreadable(str(error))), anew)
    if checkpoint is not None:
        check_fingerprint(checkpoint, settings)
    return checkpoint


def _history(checkpoint: Checkpoint | None, probes: list[ProbeSet], w: int) -> History:
    names = [probe.name for probe in probes]
    if checkpoint is None:
        return History(names, w)
    history = History.from_json(checkpoint.history)
    if list(history.probes) != names:
        raise InvalidSetting(
            f"evaluation.probes: the checkpoint was measured on {', '.join(history.probes) or 'none'}, "
            f"there are {', '.join(names) or 'none'}; --fresh begins anew"
        )
    return history


@contextmanager
def _feed(
    settings: Settings,
    policy: Policy | None,
    folder: StateFolder | None,
    checkpoint: Checkpoint | None,
    processes: Processes,
) -> Iterator[tuple[FeederProcess, Start | None]]:
    """Give the feed, from where learning stands, and that place; None where it begins anew."""
    stream, start = settings.stream, None
    if checkpoint is not None:
        counts, left = resumed(checkpoint), stream.stop_after
        if left is not None:
            left = max(0, left - counts.received - counts.lost)
            stream = stream.model_copy(update={"stop_after": left})
        start = Start(checkpoint.position, left)
    residency = None if policy is None else policy.residency_seconds
    position = None if start is None else start.position
    sharing = Sharing(
        service="" if folder is None else folder.identity,
        keep=None if folder is None or position is None else folder.fallback(position),
        purges=policy is not None and policy.purge is not None,
    )
    paused = residency is not None
    feed = FeederProcess(
        stream, settings.batch, settings.sample, position, residency, paused, sharing, processes
    )
    try:
        yield feed, start
    finally:
        feed.close()


@contextmanager
def _checkpointer(
    folder: StateFolder | None,
    settings: Settings,
    emit: Emit,
    publish: Callable[[Checkpoint], None],
    at: At,
    checkpoint: Checkpoint | None,
) -> Iterator[Checkpointer | None]:
    if folder is None:
        yield None
        return
    samples = 0 if checkpoint is None else checkpoint.samples
    checkpointer = Checkpointer(folder, settings.checkpoint, emit, publish, at, samples)
    try:
        yield checkpointer
    finally:
        checkpointer.close()
