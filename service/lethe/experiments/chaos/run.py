"""Runs the chaos test: per learner, an undisturbed run and run with kills repeatedly, on one topic."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx

from lethe.errors import BrokerUnavailable, InvalidSetting
from lethe.experiments.chaos.clients import foreign_group_member, write
from lethe.experiments.chaos.faults import Fault, Piece, pieces
from lethe.experiments.chaos.kill_loop import run_with_kills, wait_for
from lethe.experiments.chaos.kill_plan import plan_kills
from lethe.experiments.chaos.outcome import Outcome
from lethe.experiments.chaos.ranked_service import RankedService
from lethe.experiments.chaos.service import Service
from lethe.experiments.processes import Children
from lethe.experiments.topics import temporary_topic
from lethe.learners.base import LearnerContext
from lethe.learners.capabilities import Capability
from lethe.learners.registry import create, find
from lethe.probeset import save_probe
from lethe.runtime.ranks.supported import check_ranks
from lethe.settings import Settings
from lethe.stream.admin import delete_topics, ensure_topic
from lethe.stream.settings import StreamSettings
from lethe.wire import Layout
from lethe_producers.dataset_downloads import fetch
from lethe_producers.datasets import default_root
from lethe_producers.order import Order
from lethe_producers.probes import probes_of
from lethe_producers.records import Records
from lethe_producers.scenario import Scenario, load_scenario

__all__ = ["Chaos", "Progress", "Recreated", "Verdict", "default_learners", "document", "run_chaos"]

LEARNERS: Final = ("finetune", "ridge")
SCENARIO: Final = "mnist-to-fashion"
PARTITION_RECORDS: Final = 4000
"""Records per partition; the embedded broker retains 5 MiB, about 5,900 records."""
PROBE_IMAGES: Final = 300
"""Images of each probe; a service evaluates them at each start without a checkpoint."""
CHECKPOINTS: Final = 16
"""Checkpoints over the stream: kills must hit written, half-written and not yet due ones."""
EVALUATIONS: Final = 4
ANSWER_SECONDS: Final = 1.0
RECREATED_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 0.1

_NOT_FOR_RANKS: Final = (Fault.TRANSACTIONS, Fault.RECREATION)

Progress = Callable[[str, int], None]
"""Called after each step with its description and the number of kills so far."""


@dataclass(frozen=True)
class Chaos:
    """Options of the chaos test."""

    kills: int = 25
    """Kills per learner."""
    learners: Sequence[str] = LEARNERS
    broker: str | None = None
    """HOST:PORT of a Kafka cluster; None starts the embedded broker."""
    samples: int = 5000
    """Samples of each of the scenario's two segments."""
    seed: int = 0
    """Seed of the stream, the learners and the kill times."""
    report: Path | None = None
    """Folder for the state and logs of every run; None keeps none."""
    faults: Sequence[Fault] = ()
    """Faults besides kills."""
    ranks: int | None = None
    """Ranks that learn together; kills then hit a rank, the process that starts them, or all."""
    root: Path = field(default_factory=default_root)

    def check(self) -> None:
        """Raise InvalidSetting if the options are invalid."""
        refused = [fault for fault in self.faults if self.ranks and fault in _NOT_FOR_RANKS]
        if refused:
            raise InvalidSetting(
                f"--faults: {', '.join(refused)} cannot be combined with --ranks: ranks share the records of "
                "one topic by their offsets, and accept neither offsets without records nor another topic"
            )
        if len(set(self.learners)) < len(self.learners):
            raise InvalidSetting(f"--learner: each learner can be given once, not {', '.join(self.learners)}")
        for name in self.learners:
            find(name)
            if self.ranks is not None:
                check_ranks(Settings.read({"learner": {"name": name, "device": "cpu"}}))
        if self.report is not None and self.report.is_dir() and any(self.report.iterdir()):
            raise InvalidSetting(
                f"--report: {self.report} is not empty: runs would resume from its state; choose another"
            )


@dataclass(frozen=True, slots=True)
class Recreated:
    """The result of a run whose topic was deleted and recreated after a whole number of batches."""

    detected: bool
    """Whether the service, without ``--accept-loss``, stopped with an error before it used the new topic."""
    lost: int
    twice: int
    hash_equal: bool
    """Whether the learner is equal to one that learned the same samples from one topic."""

    @property
    def good(self) -> bool:
        """Whether recreation was detected, every sample was learned once, and the learners are equal."""
        return self.detected and self.hash_equal and not self.lost and not self.twice


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one learner's runs."""

    kills: int
    restarts: int
    samples: int
    """Samples in the topic."""
    lost: int
    twice: int
    """Samples learned more than once."""
    hashes_equal: bool
    """Whether learner, history, counts, offsets and random state are equal with and without kills."""
    recreated: Recreated | None = None
    """Result of the run with a recreated topic, if there was one."""
    killed: Mapping[str, int] | None = None
    """How many kills hit one rank, the launcher, or all; None for a service that learns alone."""

    @property
    def good(self) -> bool:
        """Whether every sample was learned exactly once, and the states are equal."""
        whole = self.hashes_equal and not self.lost and not self.twice
        return whole and (self.recreated is None or self.recreated.good)


def run_chaos(chaos: Chaos, progress: Progress) -> dict[str, Verdict]:
    """Return the verdict on each learner. Raises LetheError if a process cannot start or fails."""
    chaos.check()
    scenario = load_scenario(SCENARIO)
    total = scenario.total(chaos.samples)
    partitions = max(-(-total // PARTITION_RECORDS), chaos.ranks or 1)
    with (
        _folder(chaos.report) as folder,
        temporary_topic(chaos.broker, "chaos", partitions) as stream,
        Children() as children,
        httpx.Client(timeout=ANSWER_SECONDS) as client,
    ):
        progress("fetching the data sets", 0)
        for name in scenario.datasets:
            fetch(name, chaos.root)
        for order, probe in enumerate(probes_of(scenario, chaos.root)):
            few = replace(probe, x_NCHW=probe.x_NCHW[:PROBE_IMAGES], y_N=probe.y_N[:PROBE_IMAGES])
            save_probe(few, folder / "probes", order)
        progress("filling the topic", 0)
        records = _total_written(chaos, scenario, stream, partitions, children, folder / "producer.log")
        verdicts = {}
        for learner in chaos.learners:
            trial = _Trial(chaos, learner, stream, total, records, folder, children, client)
            verdicts[learner] = trial.run(progress)
            if Fault.RECREATION in chaos.faults:
                progress(f"{learner}: run with a recreated topic", chaos.kills)
                recreated = trial.recreate(_records(chaos, scenario), partitions)
                verdicts[learner] = replace(verdicts[learner], recreated=recreated)
        return verdicts


def default_learners(ranks: int | None) -> Sequence[str]:
    """Return the learners of a chaos test that names none; with ``ranks``, those of them that can pool."""
    return [name for name in LEARNERS if ranks is None or not find(name).why_not(Capability.POOLS)]


def document(chaos: Chaos, verdicts: dict[str, Verdict]) -> dict[str, Any]:
    """Return the verdicts as plain JSON."""
    return {
        "kills": chaos.kills,
        "ranks": chaos.ranks,
        "faults": list(chaos.faults),
        "learners": {learner: _document(verdict) for learner, verdict in verdicts.items()},
    }


def _document(verdict: Verdict) -> dict[str, Any]:
    found = asdict(verdict)
    if verdict.recreated is not None:
        found["recreated"]["told"] = found["recreated"].pop("detected")  # the documented key
    return found


@contextmanager
def _folder(report: Path | None) -> Iterator[Path]:
    if report is None:
        with TemporaryDirectory(prefix="lethe-chaos-") as folder:
            yield Path(folder)
        return
    report.mkdir(parents=True, exist_ok=True)
    yield report


def _records(chaos: Chaos, scenario: Scenario) -> Records:
    return Records(Order(scenario, chaos.seed, chaos.samples), chaos.root)


def _total_written(
    chaos: Chaos,
    scenario: Scenario,
    stream: StreamSettings,
    partitions: int,
    children: Children,
    log: Path,
) -> int:
    """Fill the topic with the scenario and its faults; return the number of readable records."""
    if not {Fault.MALFORMED, Fault.TRANSACTIONS} & set(chaos.faults):
        _fill(chaos, stream, children, log)
        return scenario.total(chaos.samples)
    records = _records(chaos, scenario)
    written = pieces(map(records.at, range(len(records))), chaos.faults, chaos.seed)
    return write(stream, written, partitions, Fault.TRANSACTIONS in chaos.faults)


def _fill(chaos: Chaos, stream: StreamSettings, children: Children, log: Path) -> None:
    words = ["stream", "--no-progress", "--scenario", SCENARIO, "--topic", stream.topic]
    words += ["--bootstrap-servers", stream.bootstrap_servers, "--root", str(chaos.root)]
    words += ["--seed", str(chaos.seed), "--samples", str(chaos.samples)]
    words += ["--api-version", stream.api_version] if stream.api_version else []
    children.start("producer", "lethe_producers", words, log, {}).wait()
    children.check()


@dataclass(frozen=True)
class _Trial:
    """The runs of one learner."""

    chaos: Chaos
    learner: str
    stream: StreamSettings
    total: int
    """Samples in the topic."""
    records: int
    """Records in the topic, including malformed ones."""
    folder: Path
    children: Children
    client: httpx.Client

    def run(self, progress: Progress) -> Verdict:
        progress(f"{self.learner}: undisturbed run", 0)
        started = time.monotonic()
        alone = self._start("alone", 0)
        wait_for(alone, lambda learned: learned > 0)
        start_seconds = time.monotonic() - started
        wait_for(alone, lambda _: False)
        progress(f"{self.learner}: run with kills", 0)
        starts = iter(range(1_000_000))
        plan = plan_kills(self.chaos.kills, self.total, start_seconds, self.chaos.seed)
        ranked = RankedService(lambda: self._start("killed", next(starts)), self.chaos.seed)
        with foreign_group_member(self._settings("killed").stream) if self._foreign_member else nullcontext():
            restarts = run_with_kills(
                ranked.start if self.chaos.ranks else lambda: self._start("killed", next(starts)),
                plan,
                lambda kills: progress(f"{self.learner}: run with kills", kills),
            )
        wanted, found = (Outcome.of(self._state(kind)) for kind in ("alone", "killed"))
        return Verdict(
            kills=len(plan),
            restarts=restarts,
            samples=self.total,
            lost=found.lost(self.records),
            twice=found.twice,
            hashes_equal=(found.learner, found.memory) == (wanted.learner, wanted.memory),
            killed={str(target): count for target, count in ranked.killed.items()} or None,
        )

    @property
    def _foreign_member(self) -> bool:
        return Fault.MEMBER in self.chaos.faults

    def recreate(self, records: Records, partitions: int) -> Recreated:
        """Learn half of ``records``, recreate the topic with the rest, and resume.

        Call `run` first: the learner is compared with that of its undisturbed run.
        """
        stream = self.stream.model_copy(update={"topic": f"{self.stream.topic}-{self.learner}-anew"})
        size = create(self.learner, LearnerContext(Layout())).batch_size
        half = self.total // 2 // size * size
        first, rest = ([*map(records.at, part)] for part in (range(half), range(half, self.total)))
        on, waiting = replace(self, stream=stream), f"{stream.topic}.dead-letters"
        try:
            ensure_topic(stream, stream.topic, partitions)
            write(stream, [Piece(first)], partitions, transactions=False)
            service = on._start("recreated", 0)
            wait_for(service, lambda learned: learned >= half)
            _recreate(stream, partitions)
            write(stream, [Piece(rest)], partitions, transactions=False)
            detected = service.failed() and "deleted and created anew" in service.log
            detected = detected and Outcome.of(on._state("recreated")).learned == half
            wait_for(on._start("recreated", 1, accept_loss=True), lambda _: False)
            found, wanted = Outcome.of(on._state("recreated")), Outcome.of(self._state("alone"))
        finally:
            delete_topics(stream, [stream.topic, waiting])
        return Recreated(
            detected=detected,
            lost=max(0, self.total - found.learned),
            twice=max(0, found.learned - self.total),
            hash_equal=found.learner == wanted.learner,
        )

    def _start(self, kind: str, start: int, accept_loss: bool = False) -> Service:
        log = self.folder / self.learner / kind / "log" / f"{start:03d}.txt"
        settings = self._settings(kind, accept_loss)
        return Service(self.children, self.client, f"service {self.learner}", settings, log)

    def _settings(self, kind: str, accept_loss: bool = False) -> Settings:
        wanted = self.total if kind == "recreated" else self.records
        group = f"{self.stream.topic}-{self.learner}-{kind}"
        stream = {"group": group, "stop_after": wanted, "accept_loss": accept_loss}
        device = {"device": "cpu"} if self.chaos.ranks else {}
        return Settings.read(
            {
                "stream": self.stream.model_dump(exclude_unset=True) | stream,
                "learner": {"name": self.learner, "seed": self.chaos.seed, **device},
                "evaluation": {
                    "probes": self.folder / "probes",
                    "every": max(1, self.total // EVALUATIONS),
                },
                "checkpoint": {
                    "folder": self._state(kind),
                    "every_samples": max(1, self.total // CHECKPOINTS),
                },
                "run": {"ranks": self.chaos.ranks},
            }
        )

    def _state(self, kind: str) -> Path:
        return self.folder / self.learner / kind / "state"


def _recreate(stream: StreamSettings, partitions: int) -> None:
    """Delete and recreate a topic. Raises BrokerUnavailable."""
    delete_topics(stream, [stream.topic])
    deadline = time.monotonic() + RECREATED_SECONDS
    while True:
        try:
            ensure_topic(stream, stream.topic, partitions)
        except (BrokerUnavailable, InvalidSetting):
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK_SECONDS)  # the deletion is in progress
        else:
            return
