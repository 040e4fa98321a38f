"""The composition root of one run: names the concrete classes, and puts them together."""

import logging
import platform
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import torch
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from service.errors import InvalidSetting
from service.evaluation.evaluator import Evaluator
from service.evaluation.history import History
from service.events import Event
from service.feed import FeederProcess
from service.journal import Journal
from service.learners import create
from service.learners.base import Learner, LearnerContext
from service.log import log_event
from service.loop import Loop
from service.metrics import Metrics
from service.probeset import ProbeSet, load_folder
from service.result import RunResult
from service.settings import EvaluationSettings, LearnerSettings, Settings
from service.web.app import create_app
from service.web.server import Server
from service.wire import Layout

__all__ = ["run_service"]

logger = logging.getLogger("lethe")


def run_service(settings: Settings) -> RunResult:
    """Learn from the stream until it ends or a signal asks to stop, and return what came of it.

    Raises the LetheError that makes starting, or going on, impossible.
    """
    probes = _load_probes(settings.evaluation, settings.sample)
    learner = create_learner(settings.learner, settings.sample)
    history = History([probe.name for probe in probes])
    journal = Journal(settings, type(learner), history)
    registry = _registry()
    metrics = Metrics(registry, settings.sample.size, _build(learner))

    def emit(event: Event) -> None:
        for subscriber in (journal, metrics, log_event):
            subscriber(event)

    app = create_app(journal, registry, version("lethe"))
    with _stop_signals() as stop, Server(app, settings.serve.host, settings.serve.port):
        feed = FeederProcess(settings.stream, settings.batch, settings.sample)
        try:
            Loop(
                feed=feed,
                learner=learner,
                evaluator=_evaluator(probes, settings),
                evaluate_every=settings.evaluation.every,
                history=history,
                emit=emit,
                stopping=stop.is_set,
            ).run()
        finally:
            feed.close()
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
