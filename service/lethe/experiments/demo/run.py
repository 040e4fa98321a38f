"""Runs the demo: data sets, probes, broker, services, producer and report."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import httpx
from rich.console import Console
from rich.live import Live

from lethe.errors import InvalidSetting
from lethe.events import SCORES
from lethe.experiments.demo import display
from lethe.experiments.demo.audit import audit_services
from lethe.experiments.demo.folder import LOG, STATE, fresh_folder
from lethe.experiments.processes import Children, environment, free_port
from lethe.experiments.topics import temporary_topic
from lethe.learners.registry import LEARNERS, find
from lethe.observability.result import RunResult
from lethe.privacy.audit.render import as_json, as_table
from lethe.privacy.audit.verify import Verdict
from lethe.privacy.controls import Controls, load_controls
from lethe.privacy.policy import load_policy
from lethe.report import write_report
from lethe.runtime.ranks.supported import check_ranks
from lethe.settings import PrivacySettings, Settings, variable
from lethe.stream.settings import StreamSettings
from lethe.wire import Layout
from lethe_producers.dataset_downloads import fetch
from lethe_producers.datasets import default_root
from lethe_producers.probes import write_probes
from lethe_producers.publisher import short_lived
from lethe_producers.scenario import Scenario, load_scenario

__all__ = ["Demo", "DemoResult", "document", "run_demo"]

REFRESH_SECONDS: Final = 0.5
RETENTION_SECONDS: Final = 3600.0
"""retention.ms of the topic on a cluster, in seconds: the upper limit for records that are not purged."""
LINGER_SECONDS: Final = 0.5
"""Under a policy no rank waits longer than this for another one's batch."""
WINDOW: Final = 3000
"""Maximum records of a partition between producer and slowest service: well below the embedded broker's
5 MiB, and more than a batch."""
EVALUATIONS: Final = 4
"""Of each segment, at least."""


DEFAULT_LEARNERS: Final = ("finetune", "ridge")
"""The default learners."""


@dataclass(frozen=True)
class Demo:
    """Options of the demo."""

    scenario: str = "mnist-to-fashion"
    learners: Sequence[str] = ()
    """If empty, `DEFAULT_LEARNERS`, or the first that the policy allows."""
    broker: str | None = None
    """HOST:PORT of a Kafka cluster; None starts the embedded broker."""
    samples: int | None = None
    """Limit of samples per segment."""
    seed: int = 0
    rate: float | None = None
    """Records per second; None is as fast as the services learn."""
    report: Path = Path("lethe-demo")
    keep_serving: bool = False
    policy: str | None = None
    """Name of a built-in policy or path of a policy file; None is no policy."""
    ranks: int | None = None
    """Processes in which each service learns; None is one that has no ranks."""
    root: Path = field(default_factory=default_root)

    @property
    def processes(self) -> int:
        """Processes in which each service learns."""
        return self.ranks or 1

    @property
    def threads(self) -> int:
        """Threads of each process: all services together use one per core."""
        return max(1, (os.cpu_count() or 1) // (len(self.learners) * self.processes))

    def evaluate_every(self, learner: str) -> int:
        """Samples between two evaluations: the learner's own number, or less where segments are short."""
        own = find(learner).evaluate_every
        return own if self.samples is None else min(own, max(1, self.samples // EVALUATIONS))

    @property
    def broker_name(self) -> str:
        """The broker's name in the result."""
        return self.broker or "embedded"


@dataclass(frozen=True)
class DemoResult:
    """The result of each learner and, under a policy, the verdict on its ledger."""

    runs: Sequence[RunResult]
    verdicts: Mapping[str, Verdict]

    @property
    def passed(self) -> bool:
        """Whether every audit passed."""
        return all(verdict.passed for verdict in self.verdicts.values())


def run_demo(demo: Demo, console: Console) -> DemoResult:
    """Run the demo, render it on ``console`` and return the results.

    Raises LetheError if a process cannot start or ends with an error.
    """
    controls = load_controls(PrivacySettings(policy=demo.policy))
    demo = replace(demo, learners=_chosen(demo.learners, controls))
    if demo.ranks is not None:
        for name in demo.learners:
            check_ranks(Settings.read(_ranked(demo, name)))
    with console.status("fetching and verifying the data sets"):
        scenario = load_scenario(demo.scenario, demo.root)
        for name in scenario.datasets:
            console.print(f"{name}: {fetch(name, demo.root)}")
    folder = fresh_folder(demo.report)
    with console.status("writing the probe sets"):
        write_probes(scenario, demo.root, folder / "probes")
    readers, configs = (demo.learners, short_lived(RETENTION_SECONDS)) if controls.purges else ((), None)
    with (
        temporary_topic(demo.broker, "demo", demo.processes, readers, configs) as stream,
        Children() as children,
    ):
        runs = _stream(demo, scenario, stream, children, console)
        write_report(runs, folder / "report.html")
        console.print(display.results(runs))
        verdicts = _audit(demo, folder, stream)
        for learner, verdict in verdicts.items():
            console.print(as_table(verdict, f"{learner} under the policy {demo.policy}"))
        console.print(f"report: {(folder / 'report.html').resolve()}")
        for run in runs:
            console.print(f"{run.learner}: {(folder / run.learner).resolve()}")
        if demo.keep_serving:
            console.print("still serving; press Ctrl-C to stop")
            _wait_for_interrupt(children)
    return DemoResult(runs, verdicts)


def document(demo: Demo, result: DemoResult) -> dict[str, Any]:
    """Return the result as plain JSON; accuracies are ratios from 0 to 1."""
    runs = result.runs
    return {
        "scenario": demo.scenario,
        "policy": demo.policy,
        "broker": demo.broker_name,
        "seed": demo.seed,
        "segments": runs[0].segments,
        "probes": runs[0].probes,
        "learners": {
            run.learner: {
                "R": run.R,
                **{name: getattr(run, name) for name in SCORES},
                "ece_by_probe": run.evaluations[-1].ece if run.evaluations else {},
                "class_names": run.class_names,
                "accuracy_by_class": run.classes[-1].accuracy if run.classes else {},
                "boundaries": run.boundaries.model_dump(),
                "samples": run.samples.model_dump(),
                "dead_letters": run.dead_letters,
                "samples_per_second": run.samples_per_second,
                "seconds": run.seconds,
                "evaluation_seconds": run.evaluation_seconds,
                "peak_rss_bytes": run.peak_rss_bytes,
                "audit": as_json(result.verdicts[run.learner]) if run.learner in result.verdicts else None,
            }
            for run in runs
        },
    }


def _chosen(names: Sequence[str], controls: Controls) -> Sequence[str]:
    """Return the learners to run; named ones must be allowed by the policy, defaults are chosen by it."""
    if len(set(names)) < len(names):
        raise InvalidSetting(f"--learner: each learner can be given once, not {', '.join(names)}")
    for name in names:
        controls.check_learner(find(name))
    if names:
        return names
    for choice in (DEFAULT_LEARNERS, LEARNERS):
        allowed = [name for name in choice if _allowed(name, controls)]
        if allowed:
            return allowed if choice is DEFAULT_LEARNERS else allowed[:1]
    raise InvalidSetting(f"policy {controls.policy_name} allows none of {', '.join(LEARNERS)}")


def _allowed(name: str, controls: Controls) -> bool:
    try:
        controls.check_learner(find(name))
    except InvalidSetting:
        return False
    return True


def _stream(
    demo: Demo, scenario: Scenario, stream: StreamSettings, children: Children, console: Console
) -> list[RunResult]:
    ports = {learner: free_port() for learner in demo.learners}
    total = scenario.total(demo.samples)
    for learner, port in ports.items():
        settings = environment(_settings(demo, scenario.layout, learner, port, total, stream))
        log = demo.report / learner / LOG
        children.start(f"service {learner}", "lethe", ["run"], log, settings)
    secured = {variable("stream", "security"): json.dumps(dict(stream.security))} if stream.security else {}
    states = {learner: f"http://127.0.0.1:{port}/state" for learner, port in ports.items()}
    children.start(
        "producer", "lethe_producers", _producer(demo, stream, states), demo.report / "producer.log", secured
    )
    _watch(demo, states, total, [segment.subject for segment in scenario.subjects], children, console)
    return [
        RunResult.read(demo.report / learner / "run.json").model_copy(
            update={"scenario": scenario.name, "broker": demo.broker_name}
        )
        for learner in demo.learners
    ]


def _ranked(demo: Demo, learner: str) -> dict[str, dict[str, Any]]:
    """Return the settings that say how a service learns in its processes."""
    device = {} if demo.ranks is None else {"device": "cpu"}
    linger = {"linger": LINGER_SECONDS} if demo.ranks and demo.policy else {}
    return {
        "learner": {"name": learner, "seed": demo.seed, "threads": demo.threads, **device},
        "privacy": {"policy": demo.policy},
        "batch": {"size": find(learner).batch_size, **linger},
    }


def _audit(demo: Demo, folder: Path, stream: StreamSettings) -> Mapping[str, Verdict]:
    """Return the verdict on each learner's ledger; without a policy there is nothing to audit."""
    if not demo.policy:
        return {}
    return audit_services(folder, demo.learners, load_policy(demo.policy), stream)


def _settings(
    demo: Demo, layout: Layout, learner: str, port: int, total: int, stream: StreamSettings
) -> Settings:
    folder = demo.report / learner
    groups = {name: f"{stream.topic}-{name}" for name in demo.learners}
    own = {"group": groups.pop(learner), "shared_with": ",".join(groups.values()), "stop_after": total}
    return Settings.read(
        {
            "stream": stream.model_dump(exclude_unset=True) | own,
            "sample": layout.model_dump(),
            **_ranked(demo, learner),
            "evaluation": {"probes": demo.report / "probes", "every": demo.evaluate_every(learner)},
            "checkpoint": {"folder": folder / STATE, "fresh": True},
            "serve": {"port": port, "keep": demo.keep_serving},
            "run": {"report": folder, "ranks": demo.ranks},
        }
    )


def _producer(demo: Demo, stream: StreamSettings, states: Mapping[str, str]) -> list[str]:
    arguments = {
        "--bootstrap-servers": stream.bootstrap_servers,
        "--topic": stream.topic,
        "--scenario": demo.scenario,
        "--seed": demo.seed,
        "--samples": demo.samples,
        "--rate": demo.rate,
        "--root": demo.root,
        "--api-version": stream.api_version,
    }
    command = ["stream", "--no-progress"]
    command += [str(argument) for pair in arguments.items() if pair[1] is not None for argument in pair]
    if demo.broker is None:  # a cluster retains what the services have not read yet
        command += ["--window", str(WINDOW * demo.processes)]
        command += [argument for url in states.values() for argument in ("--hold-back", url)]
    return command


def _watch(
    demo: Demo,
    states: Mapping[str, str],
    total: int,
    probes: Sequence[str],
    children: Children,
    console: Console,
) -> None:
    """Render the services' progress until each has written its result."""
    seen: dict[str, Any] = dict.fromkeys(states)
    with httpx.Client(timeout=2.0) as client, Live(console=console, refresh_per_second=4) as live:
        while not all((demo.report / learner / "run.json").exists() for learner in states):
            children.check()
            for learner, url in states.items():
                try:
                    seen[learner] = client.get(url).json()
                except httpx.TransportError:
                    continue  # starting, or ended
            live.update(display.progress(seen, total, probes))
            time.sleep(REFRESH_SECONDS)
        children.check()
    console.print()  # end the last line of the live display


def _wait_for_interrupt(children: Children) -> None:
    try:
        while True:
            children.check()
            time.sleep(REFRESH_SECONDS)
    except KeyboardInterrupt:
        return
