"""The composition root of ``lethe watch``: connects a target with everything that measures and shows it."""

import logging
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch

from lethe.errors import InvalidSetting
from lethe.evaluation.history import History
from lethe.events import Emit, Event, ScoresUpdated, SegmentStarted, TargetStatus
from lethe.observability.log import log_event
from lethe.observability.result import RunResult
from lethe.observability.run_state import RunState, Subject
from lethe.observability.watch_metrics import WatchedRegistry, WatchMetrics
from lethe.privacy.status import PolicyStatus
from lethe.probeset import ProbeSet, class_names, load_folder
from lethe.report import write_report
from lethe.runtime.signals import StopRequest, stop_signals
from lethe.runtime.watch.asking import Asker, Pace
from lethe.runtime.watch.beside import Beside
from lethe.runtime.watch.panel import Panel, class_count
from lethe.runtime.watch.targets.checkpoints import CheckpointTarget
from lethe.runtime.watch.targets.function import FunctionTarget
from lethe.runtime.watch.targets.http import HttpOptions, HttpTarget
from lethe.runtime.watch.targets.target import Target
from lethe.runtime.watch.visits import VisitFile, Visits
from lethe.runtime.watch.watch_state import WatchFolder, WatchState
from lethe.runtime.watch.watcher import Pattern, Watcher
from lethe.settings import Settings
from lethe.web.app import create_app
from lethe.web.auth import read_token
from lethe.web.rejected_requests import RejectedRequests
from lethe.web.security import AllowedHosts
from lethe.web.server import Server

__all__ = ["Watch", "create_target", "load_probes", "watch_model"]

logger = logging.getLogger("lethe")


@dataclass(frozen=True)
class Watch:
    """What to watch, and how."""

    probes: Path
    url: str | None = None
    protocol: str = "kserve-v2"
    python: str | None = None
    checkpoints: Path | None = None
    backbone: str | None = None
    http: HttpOptions = field(default_factory=HttpOptions)
    pattern: Pattern = field(default_factory=Pattern)
    images: int = 500
    """Most images of each probe."""
    seed: int = 0
    batch: int = 32
    """Images in a request."""
    concurrency: int = 4
    per_minute: float | None = None
    """Most requests a minute; None for no limit."""
    state: Path | None = None
    visits: Path | None = None
    """File of visits."""
    rounds: int | None = None
    """Rounds after which watching ends; None to go on."""
    beside: Mapping[str, Path] = field(default_factory=dict)
    """Results of models that are watched elsewhere, by name."""


def load_probes(folder: Path) -> list[ProbeSet]:
    """Return the probes in ``folder``. Raises InvalidFile, InvalidSetting."""
    probes = load_folder(folder)
    if empty := [probe.name for probe in probes if not len(probe.y_N)]:
        raise InvalidSetting(f"--probes {folder}: {empty[0]} has no images")
    shapes = {probe.x_NCHW.shape[1:] for probe in probes}
    if len(shapes) > 1:
        raise InvalidSetting(f"--probes {folder}: one model cannot take images of {shapes}")
    return probes


def create_target(watch: Watch, sleep: Callable[[float], None]) -> Target:
    """Return the model to watch; ``sleep`` waits before the retry of a request. Raises InvalidSetting."""
    given = [name for name in ("url", "python", "checkpoints") if getattr(watch, name) is not None]
    if len(given) != 1:
        raise InvalidSetting("one of --url, --python and --checkpoints is needed, and only one")
    if watch.url is not None:
        return HttpTarget(watch.url, watch.protocol, watch.http, sleep)
    if watch.python is not None:
        return FunctionTarget(watch.python, watch.http.form)
    if watch.checkpoints is None or watch.backbone is None:
        raise InvalidSetting("--checkpoints needs --backbone my_package.nets:resnet, which makes the network")
    return CheckpointTarget(watch.checkpoints, watch.backbone, watch.http.form)


def watch_model(watch: Watch, settings: Settings) -> RunResult:
    """Watch until a signal asks to stop; return the result. Raises the LetheError that prevents the start.

    Of ``settings``, those of the sections serve and run count.
    """
    probes = load_probes(watch.probes)
    token = read_token(settings.serve.token_file) if settings.serve.token_file else None
    pace = Pace(watch.per_minute)
    target = create_target(watch, pace.sleep)
    with WatchFolder(watch.state) as folder, stop_signals() as stop:
        return _Service(watch, settings, probes, target, pace, folder, stop, token).run()


class _Service:
    """One service that watches: its history, its subscribers and its HTTP interface."""

    def __init__(
        self,
        watch: Watch,
        settings: Settings,
        probes: list[ProbeSet],
        target: Target,
        pace: Pace,
        folder: WatchFolder,
        stop: StopRequest,
        token: str | None,
    ) -> None:
        self._watch, self._settings, self._target = watch, settings, target
        self._folder, self._token, self._stop = folder, token, stop
        state = folder.load(_new_state(watch, probes))
        names, self._probes = class_names(probes), [probe.name for probe in probes]
        self._history = History.from_json(state.history) if state.history else History(self._probes)
        subject = Subject(target.name, "unknown", f"watched at {target.address}", "watched", target.address)
        hashes = {probe.name: probe.sha256 for probe in probes}
        self._run_state = RunState(settings, subject, self._history, class_names=names, probe_hashes=hashes)
        self._registry = WatchedRegistry()
        build = {"version": version("lethe"), "learner": target.name, "retains": "unknown"}
        build |= {"torch": torch.__version__, "python": platform.python_version()}
        metrics = WatchMetrics(self._registry, build, names, watch.per_minute, self._probes)
        self._subscribers: list[Emit] = [metrics, self._run_state, log_event]
        self._visits = Visits()
        classes = class_count(probes)
        self._asker = Asker(target, pace, self._emit, stop.is_set, watch.batch, watch.concurrency)
        self._watcher = Watcher(
            self._asker,
            [Panel(probe, watch.images, watch.seed, classes) for probe in probes],
            self._history,
            state,
            folder,
            self._visits,
            VisitFile(watch.visits, self._probes, state.lines_read),
            self._emit,
            stop.is_set,
            watch.pattern,
            rest=lambda seconds: _rest(stop, seconds),
        )

    def run(self) -> RunResult:
        """Watch, serve, and write the report at the end."""
        self._restore()
        report = self._settings.run.report
        if report is not None:
            report.mkdir(parents=True, exist_ok=True)
        try:
            with self._create_server():
                self._watcher.run(self._watch.rounds)
                if self._settings.serve.keep:
                    while not self._stop.wait(1.0):
                        self._watcher.turn()
        finally:
            self._asker.close()
        result = self._run_state.result()
        if report is not None:
            result.write(report / "run.json")
            write_report([result], report / "report.html")
            logger.info("wrote %s and %s", report / "run.json", report / "report.html")
        return result

    def _restore(self) -> None:
        segments = self._history.segments
        if segments:
            last = self._history.switches[-1]
            self._emit(SegmentStarted(last.segment, len(segments), last.samples, resumed=True))
        if (latest := self._history.latest()) is not None:
            self._emit(latest)

    def _emit(self, event: Event) -> None:
        for subscriber in self._subscribers:
            subscriber(event)
        if self._settings.run.report is not None and isinstance(event, ScoresUpdated | TargetStatus):
            self._run_state.result().write(self._settings.run.report / "run.json")

    def _create_server(self) -> Server:
        serve, rejected = self._settings.serve, RejectedRequests(self._registry)
        app = create_app(
            self._run_state,
            self._registry,
            version("lethe"),
            PolicyStatus(),
            token=self._token,
            on_rejected=rejected,
            announce_visit=self._visits.add,
            beside=Beside(self._watch.beside),
        )
        hosts = AllowedHosts([serve.host, *filter(None, map(str.strip, serve.hosts.split(",")))])
        server = Server(app, serve.host, serve.port, hosts=hosts, on_rejected=rejected)
        if server.public and self._token is None:
            logger.warning(
                "serve.host %s is reachable from other machines and serve.token_file is not set: anyone who "
                "reaches port %s can read the results and announce visits",
                serve.host,
                server.address.rpartition(":")[2],
            )
        return server


def _rest(stop: StopRequest, seconds: float) -> None:
    stop.wait(seconds)


def _new_state(watch: Watch, probes: list[ProbeSet]) -> WatchState:
    hashes = {probe.name: probe.sha256 for probe in probes}
    return WatchState(probes=hashes, images=watch.images, seed=watch.seed, began=0.0)
