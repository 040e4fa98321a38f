"""Conducts the chaos: one topic, and for each learner a run left alone and a run killed over and over."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx

from producers.datasets import default_root
from producers.probes import probes_of
from producers.scenario import load_scenario
from producers.sources import fetch
from service.chaos.instants import instants
from service.chaos.outcome import Outcome
from service.chaos.service import Service
from service.chaos.victim import run_through, watch
from service.demo.processes import Children
from service.demo.stage import fresh_topic
from service.errors import InvalidSetting
from service.learners import find
from service.probeset import save_probe
from service.settings import Settings
from service.stream.settings import StreamSettings

__all__ = ["Chaos", "Tell", "Verdict", "document", "run_chaos"]

SCENARIO: Final = "mnist-to-fashion"
PARTITION_RECORDS: Final = 4000
"""The embedded broker keeps 5 MiB of a partition, about 5,900 records."""
PROBE_IMAGES: Final = 300
"""Of each probe: a service measures the untrained learner on them at each start without a checkpoint."""
CHECKPOINTS: Final = 16
"""Checkpoints over the stream: kills must find some written, some half written and some not yet due."""
EVALUATIONS: Final = 4
ANSWER_SECONDS: Final = 1.0

Tell = Callable[[str, int], None]
"""Told, after each step, what is being done and how many kills there have been."""


@dataclass(frozen=True)
class Chaos:
    """How often, on what, and where."""

    kills: int = 25
    """Of each learner's service."""
    learners: Sequence[str] = ("finetune", "ridge")
    broker: str | None = None
    """HOST:PORT of a Kafka cluster; None starts the embedded broker."""
    samples: int = 5000
    """Of each of the scenario's two segments."""
    seed: int = 0
    """Of the stream, the learners and the instants."""
    report: Path | None = None
    """Folder for every run's state and logs; None leaves nothing behind."""
    root: Path = field(default_factory=default_root)

    def check(self) -> None:
        """Raise InvalidSetting for what cannot be done."""
        if len(set(self.learners)) < len(self.learners):
            raise InvalidSetting(f"learner: one is named twice in {', '.join(self.learners)}")
        for name in self.learners:
            find(name)
        if self.report is not None and self.report.is_dir() and any(self.report.iterdir()):
            raise InvalidSetting(
                f"report: {self.report} is not empty, and runs in it would go on from its state"
            )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one learner's service."""

    kills: int
    restarts: int
    samples: int
    """In the topic."""
    lost: int
    twice: int
    """Learned more than once."""
    hashes_equal: bool
    """Of learner, evaluation history, counts, position and random state, without and with kills."""

    @property
    def good(self) -> bool:
        """Every sample was learned exactly once, and the same was learned."""
        return self.hashes_equal and not self.lost and not self.twice


def run_chaos(chaos: Chaos, tell: Tell) -> dict[str, Verdict]:
    """Return each learner's verdict. Raises LetheError when a part cannot start or ends with an error."""
    chaos.check()
    scenario = load_scenario(SCENARIO)
    total = scenario.total(chaos.samples)
    partitions = -(-total // PARTITION_RECORDS)
    with (
        _folder(chaos.report) as folder,
        fresh_topic(chaos.broker, "chaos", partitions) as stream,
        Children() as children,
        httpx.Client(timeout=ANSWER_SECONDS) as client,
    ):
        tell("fetching the data sets", 0)
        for name in sorted({segment.dataset for segment in scenario.segments}):
            fetch(name, chaos.root)
        for order, probe in enumerate(probes_of(scenario, chaos.root)):
            few = replace(probe, x_NCHW=probe.x_NCHW[:PROBE_IMAGES], y_N=probe.y_N[:PROBE_IMAGES])
            save_probe(few, folder / "probes", order)
        tell("filling the topic", 0)
        _fill(chaos, stream, children, folder / "producer.log")
        verdicts = {}
        for learner in chaos.learners:
            trial = _Trial(chaos, learner, stream, total, folder, children, client)
            verdicts[learner] = trial.run(tell)
        return verdicts


def document(chaos: Chaos, verdicts: dict[str, Verdict]) -> dict[str, Any]:
    """Return the verdicts as plain JSON."""
    fields = ("kills", "restarts", "samples", "lost", "twice", "hashes_equal")
    return {
        "kills": chaos.kills,
        "learners": {
            learner: {name: getattr(verdict, name) for name in fields}
            for learner, verdict in verdicts.items()
        },
    }


@contextmanager
def _folder(report: Path | None) -> Iterator[Path]:
    if report is None:
        with TemporaryDirectory(prefix="lethe-chaos-") as folder:
            yield Path(folder)
        return
    report.mkdir(parents=True, exist_ok=True)
    yield report


def _fill(chaos: Chaos, stream: StreamSettings, children: Children, log: Path) -> None:
    words = ["stream", "--no-progress", "--scenario", SCENARIO, "--topic", stream.topic]
    words += ["--bootstrap-servers", stream.bootstrap_servers, "--root", str(chaos.root)]
    words += ["--seed", str(chaos.seed), "--samples", str(chaos.samples)]
    words += ["--api-version", stream.api_version] if stream.api_version else []
    children.start("producer", "producers", words, log, {}).wait()
    children.check()


@dataclass(frozen=True)
class _Trial:
    """One learner's two runs."""

    chaos: Chaos
    learner: str
    stream: StreamSettings
    total: int
    folder: Path
    children: Children
    client: httpx.Client

    def run(self, tell: Tell) -> Verdict:
        tell(f"{self.learner}: a run that is left alone", 0)
        started = time.monotonic()
        alone = self._start("alone", 0)
        watch(alone, lambda learned: learned > 0)
        start_seconds = time.monotonic() - started
        watch(alone, lambda _: False)
        tell(f"{self.learner}: a run that is killed", 0)
        starts = iter(range(1_000_000))
        plan = instants(self.chaos.kills, self.total, start_seconds, self.chaos.seed)
        restarts = run_through(
            lambda: self._start("killed", next(starts)),
            plan,
            lambda kills: tell(f"{self.learner}: a run that is killed", kills),
        )
        wanted, found = (Outcome.of(self._state(kind)) for kind in ("alone", "killed"))
        return Verdict(
            kills=len(plan),
            restarts=restarts,
            samples=self.total,
            lost=found.lost(self.total),
            twice=found.twice,
            hashes_equal=(found.learner, found.memory) == (wanted.learner, wanted.memory),
        )

    def _start(self, kind: str, start: int) -> Service:
        log = self.folder / self.learner / kind / "log" / f"{start:03d}.txt"
        return Service(self.children, self.client, f"service {self.learner}", self._settings(kind), log)

    def _settings(self, kind: str) -> Settings:
        stream = {"group": f"{self.stream.topic}-{self.learner}-{kind}", "stop_after": self.total}
        return Settings.read(
            {
                "stream": self.stream.model_dump(exclude_unset=True) | stream,
                "learner": {"name": self.learner, "seed": self.chaos.seed},
                "evaluation": {
                    "probes": self.folder / "probes",
                    "every": max(1, self.total // EVALUATIONS),
                },
                "checkpoint": {
                    "folder": self._state(kind),
                    "every_samples": max(1, self.total // CHECKPOINTS),
                },
            }
        )

    def _state(self, kind: str) -> Path:
        return self.folder / self.learner / kind / "state"
