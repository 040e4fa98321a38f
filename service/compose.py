"""The composition root of one run: names the concrete classes, and puts them together."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from service.batching import Start
from service.checkpoint import At, Checkpoint, ignore
from service.checkpointer import Checkpointer
from service.drift.watch import Watch
from service.errors import InvalidSetting, PolicyBroken, StateNotKept
from service.evaluation.history import History
from service.events import CheckpointUnreadable, Emit, Event, Turned
from service.feed import FeederProcess
from service.journal import Journal
from service.log import log_event
from service.loop import Loop
from service.metrics import Metrics
from service.parts import build_labels, create_evaluator, create_learner, create_registry, load_probes
from service.privacy.guard import Guard, held_to
from service.privacy.policy import Policy, load_policy
from service.privacy.receipts import Receipts, open_receipts
from service.probeset import ProbeSet
from service.result import RunResult
from service.resume import check_fingerprint, restore, resumed, take
from service.settings import CheckpointSettings, Settings
from service.state_folder import StateFolder
from service.web.app import create_app
from service.web.server import Server

__all__ = ["run_service"]

logger = logging.getLogger("lethe")


def run_service(settings: Settings, at: At = ignore) -> RunResult:
    """Learn from the stream until it ends or a signal asks to stop, and return what came of it.

    ``at`` is told each step of the checkpoints' protocol. Raises the LetheError that makes
    starting, or going on, impossible.
    """
    if settings.run.report is not None:
        settings.run.report.mkdir(parents=True, exist_ok=True)  # refused now, not after hours of learning
    policy = load_policy(settings.privacy.policy) if settings.privacy.policy else None
    probes = load_probes(settings.evaluation, settings.sample)
    learner = create_learner(settings.learner, settings.sample)
    if policy is not None:
        settings = held_to(policy, settings, type(learner), probes)
    with _state_folder(settings.checkpoint) as folder, _stop_signals() as stop:
        unreadable: list[CheckpointUnreadable] = []
        checkpoint = _newest(folder, settings, unreadable)
        history, watch = _history(checkpoint, probes), _watch(checkpoint)
        journal = Journal(settings, type(learner), history)
        registry = create_registry()
        metrics = Metrics(registry, settings.sample.size, build_labels(learner))
        subscribers: list[Emit] = [journal, metrics, log_event]

        def emit(event: Event) -> None:
            for subscriber in subscribers:
                subscriber(event)

        guard = None if policy is None else Guard(policy, emit)
        if guard is not None:
            subscribers.append(guard)
        for event in unreadable:
            emit(event)
        if checkpoint is not None:
            restore(checkpoint, learner, history, emit)
            if checkpoint.timing is not None:
                journal.go_on(cast("dict[str, Any]", checkpoint.timing))
        receipts = open_receipts(folder, settings.stream.topic, learner.retains, policy, checkpoint)
        app = create_app(journal, registry, version("lethe"))
        with Server(app, settings.serve.host, settings.serve.port):
            with _feed(settings, policy, checkpoint) as (feed, start):
                loop = Loop(
                    feed=feed,
                    learner=learner,
                    evaluator=create_evaluator(probes, settings),
                    evaluate_every=settings.evaluation.every,
                    history=history,
                    emit=emit,
                    stopping=lambda: stop.is_set() or (guard is not None and guard.stop),
                    take=partial(take, settings, learner, history, journal, receipts, watch=watch),
                    receipts=receipts,
                    start=start,
                    apart=policy is not None and policy.residency_seconds is not None,
                    watch=watch,
                    oracle=settings.drift.oracle,
                )
                publish = partial(_publish, feed, receipts)
                with _checkpointer(folder, settings, emit, publish, at, checkpoint) as loop.checkpointer:
                    loop.run(ended=start is not None and start.left is not None and start.left <= 0)
            emit(Turned(feed.resident))
            result = journal.result()
            _leave_behind(result, settings.run.report)
            if guard is not None and guard.stop and guard.violation is not None:
                raise PolicyBroken(f"policy {guard.name}, {guard.violation.rule}: {guard.violation.detail}")
            if settings.serve.keep and not stop.is_set():
                logger.info("the run has ended; serving until SIGTERM or Ctrl-C")
                stop.wait()
            if loop.checkpointer is not None and loop.checkpointer.failure:
                raise StateNotKept(
                    f"the last checkpoint was not written, {loop.checkpointer.failure}; "
                    "a restart learns again from the one before"
                )
    return result


def _publish(feed: FeederProcess, receipts: Receipts | None, checkpoint: Checkpoint) -> None:
    """Let the ledger and the broker know what is safe on the disk."""
    if receipts is not None:
        receipts.on_disk(checkpoint)
    feed.commit(checkpoint.position)


def _leave_behind(result: RunResult, folder: Path | None) -> None:
    if folder is None:
        return
    from service.report import write_report  # plotly is slow to import, and only now needed

    result.write(folder / "run.json")
    write_report([result], folder / "report.html")
    logger.info("wrote %s and %s", folder / "run.json", folder / "report.html")


@contextmanager
def _state_folder(settings: CheckpointSettings) -> Iterator[StateFolder | None]:
    if settings.folder is None:
        logger.warning("no --state folder: after a restart, learning begins anew")
        yield None
        return
    with StateFolder(settings.folder, settings.keep) as folder:
        if settings.fresh:
            folder.set_aside()
        yield folder


def _newest(
    folder: StateFolder | None, settings: Settings, unreadable: list[CheckpointUnreadable]
) -> Checkpoint | None:
    if folder is None:
        return None
    checkpoint = folder.newest(lambda _, error: unreadable.append(CheckpointUnreadable(str(error))))
    if checkpoint is not None:
        check_fingerprint(checkpoint, settings)
    return checkpoint


def _history(checkpoint: Checkpoint | None, probes: list[ProbeSet]) -> History:
    names = [probe.name for probe in probes]
    if checkpoint is None:
        return History(names)
    history = History.from_json(checkpoint.history)
    if list(history.probes) != names:
        raise InvalidSetting(
            f"evaluation.probes: the checkpoint was measured on {', '.join(history.probes) or 'none'}, "
            f"there are {', '.join(names) or 'none'}; --fresh begins anew"
        )
    return history


def _watch(checkpoint: Checkpoint | None) -> Watch:
    return Watch.going_on(None if checkpoint is None else checkpoint.drift)


@contextmanager
def _feed(
    settings: Settings, policy: Policy | None, checkpoint: Checkpoint | None
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
    feed = FeederProcess(
        stream, settings.batch, settings.sample, position, residency, paused=residency is not None
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


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Give an event that SIGTERM and SIGINT set, and put the old handlers back afterwards."""
    stop = threading.Event()
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: stop.set()) for number in signals]
    try:
        yield stop
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
