"""The composition root of one run: names the concrete classes, and puts them together."""

import logging
import platform
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from service.checkpoint import At, Checkpoint, ignore
from service.checkpointer import Checkpointer, CheckpointSettings
from service.errors import InvalidSetting
from service.evaluation.evaluator import Evaluator
from service.evaluation.history import History
from service.events import CheckpointUnreadable, Emit, Event
from service.feed import FeederProcess
from service.journal import Journal
from service.learners import create
from service.learners.base import Learner, LearnerContext
from service.log import log_event
from service.loop import Loop
from service.metrics import Metrics
from service.probeset import ProbeSet, load_folder
from service.result import RunResult
from service.resume import check_fingerprint, restore, resumed, take
from service.settings import EvaluationSettings, LearnerSettings, Settings
from service.state_folder import StateFolder
from service.web.app import create_app
from service.web.server import Server
from service.wire import Layout

__all__ = ["run_service"]

logger = logging.getLogger("lethe")


def run_service(settings: Settings, at: At = ignore) -> RunResult:
    """Learn from the stream until it ends or a signal asks to stop, and return what came of it.

    ``at`` is told each step of the checkpoints' protocol. Raises the LetheError that makes
    starting, or going on, impossible.
    """
    probes = _load_probes(settings.evaluation, settings.sample)
    learner = create_learner(settings.learner, settings.sample)
    with _state_folder(settings.checkpoint) as folder, _stop_signals() as stop:
        unreadable: list[CheckpointUnreadable] = []
        checkpoint = _newest(folder, settings, unreadable)
        history = _history(checkpoint, probes)
        journal = Journal(settings, type(learner), history)
        registry = _registry()
        metrics = Metrics(registry, settings.sample.size, _build(learner))

        def emit(event: Event) -> None:
            for subscriber in (journal, metrics, log_event):
                subscriber(event)

        for event in unreadable:
            emit(event)
        if checkpoint is not None:
            restore(checkpoint, learner, history, emit)
        app = create_app(journal, registry, version("lethe"))
        with Server(app, settings.serve.host, settings.serve.port):
            with _feed(settings, checkpoint) as (feed, ended):
                loop = Loop(
                    feed=feed,
                    learner=learner,
                    evaluator=_evaluator(probes, settings),
                    evaluate_every=settings.evaluation.every,
                    history=history,
                    emit=emit,
                    stopping=stop.is_set,
                    take=partial(take, settings, learner, history, journal),
                    position=None if checkpoint is None else checkpoint.position,
                )
                samples = 0 if checkpoint is None else checkpoint.samples
                with _checkpointer(folder, settings, emit, feed, at, samples) as loop.checkpointer:
                    loop.run(ended)
            result = journal.result()
            _leave_behind(result, settings.run.report)
            if settings.serve.keep and not stop.is_set():
                logger.info("the run has ended; serving until SIGTERM or Ctrl-C")
                stop.wait()
    return result


def create_learner(settings: LearnerSettings, layout: Layout) -> Learner:
    """Return the learner that ``settings`` name, on their device and threads.

    Raises InvalidSetting for a learner that does not exist or cannot take the layout, and for a
    device that this machine does not have.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    wanted = settings.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InvalidSetting("learner.device cuda: torch finds no CUDA device; auto takes the CPU then")
    device = torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")
    try:
        return create(settings.name, LearnerContext(layout, settings.seed, device))
    except ValueError as error:
        raise InvalidSetting(f"learner {settings.name}: {error}") from error


def _load_probes(settings: EvaluationSettings, layout: Layout) -> list[ProbeSet]:
    if settings.probes is None:
        return []
    probes = load_folder(settings.probes)
    for probe in probes:
        if (
            probe.x_NCHW.shape[1:] != layout.shape
            or not 0 <= probe.y_N.min() <= probe.y_N.max() < layout.classes
        ):
            raise InvalidSetting(
                f"evaluation.probes: {probe.name} has images of {probe.x_NCHW.shape[1:]} and labels up to "
                f"{probe.y_N.max()}, the stream's are {layout.shape} and up to {layout.classes - 1}"
            )
    return probes


def _evaluator(probes: list[ProbeSet], settings: Settings) -> Evaluator | None:
    return Evaluator(probes, settings.evaluation.subset, settings.learner.seed) if probes else None


def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


def _build(learner: Learner) -> dict[str, str]:
    return {
        "version": version("lethe"),
        "learner": learner.name,
        "retains": learner.retains.value,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


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


@contextmanager
def _feed(settings: Settings, checkpoint: Checkpoint | None) -> Iterator[tuple[FeederProcess, bool]]:
    """Give the feed from where learning stands, and whether the run had already come to its end."""
    stream, position, ended = settings.stream, None, False
    if checkpoint is not None:
        position, counts = checkpoint.position, resumed(checkpoint)
        if stream.stop_after is not None:
            left = stream.stop_after - counts.received - counts.lost
            ended = left <= 0
            stream = stream.model_copy(update={"stop_after": max(left, 0)})
    feed = FeederProcess(stream, settings.batch, settings.sample, position)
    try:
        yield feed, ended
    finally:
        feed.close()


@contextmanager
def _checkpointer(
    folder: StateFolder | None, settings: Settings, emit: Emit, feed: FeederProcess, at: At, samples: int
) -> Iterator[Checkpointer | None]:
    if folder is None:
        yield None
        return
    checkpointer = Checkpointer(folder, settings.checkpoint, emit, feed.commit, at, samples)
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
