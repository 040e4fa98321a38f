"""Conducts the demo: data, probes, broker, services, producer, and the report at the end."""

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

from producers.datasets import default_root
from producers.probes import write_probes
from producers.publisher import short_lived
from producers.scenario import Scenario, load_scenario
from producers.sources import fetch
from service.demo import display
from service.demo.folder import LOG, STATE, fresh_folder
from service.demo.judging import judge
from service.demo.processes import Children
from service.demo.stage import environment, free_port, fresh_topic
from service.errors import InvalidSetting
from service.learners import LEARNERS, find
from service.privacy.audit import Verdict
from service.privacy.budget import within_budget
from service.privacy.policy import Policy, load_policy
from service.privacy.show import as_json, as_table
from service.report import write_report
from service.result import SCORES, RunResult
from service.settings import Settings, variable
from service.stream.settings import StreamSettings

__all__ = ["Demo", "Shown", "document", "run_demo"]

REFRESH_SECONDS: Final = 0.5
RETENTION_SECONDS: Final = 3600.0
"""What a purge should have taken and has not is gone from a cluster's topic after so long anyway."""
WINDOW: Final = 3000
"""Records that the producer may be ahead of the slowest service: well below the embedded broker's 5 MiB."""


SHOWN: Final = ("finetune", "ridge")
"""The learners that are shown when none are named."""


@dataclass(frozen=True)
class Demo:
    """What to stream, to whom, and where the report goes."""

    scenario: str = "mnist-to-fashion"
    learners: Sequence[str] = ()
    """Without any, `SHOWN`, or what else the policy allows."""
    broker: str | None = None
    """HOST:PORT of a Kafka cluster; None starts the embedded broker."""
    samples: int | None = None
    """At most so many of each segment."""
    seed: int = 0
    rate: float | None = None
    """Records a second; None is as fast as the services go."""
    report: Path = Path("lethe-demo")
    keep_serving: bool = False
    policy: str | None = None
    """A shipped policy's name, or its file; None holds the services to none."""
    root: Path = field(default_factory=default_root)

    @property
    def threads(self) -> int:
        """Threads of each service: together as many as there are cores, or they only wait for each other."""
        return max(1, (os.cpu_count() or 1) // len(self.learners))

    @property
    def broker_name(self) -> str:
        """What the result says the broker was."""
        return self.broker or "embedded"


@dataclass(frozen=True)
class Shown:
    """What came of a demo: each learner's run and, under a policy, the verdict on its ledger."""

    runs: Sequence[RunResult]
    verdicts: Mapping[str, Verdict]

    @property
    def passed(self) -> bool:
        """No audit found anything wanting."""
        return all(verdict.passed for verdict in self.verdicts.values())


def run_demo(demo: Demo, console: Console) -> Shown:
    """Run the demo, showing it on ``console``, and return each learner's result.

    Raises LetheError when a part of it cannot start or ends with an error.
    """
    policy = load_policy(demo.policy) if demo.policy else None
    demo = replace(demo, learners=_chosen(demo.learners, policy))
    scenario = load_scenario(demo.scenario)
    with console.status("fetching and verifying the data sets"):
        for name in sorted({segment.dataset for segment in scenario.segments}):
            console.print(f"{name}: {fetch(name, demo.root)}")
    folder = fresh_folder(demo.report)
    with console.status("writing the probe sets"):
        write_probes(scenario, demo.root, folder / "probes")
    purges = policy is not None and policy.purge is not None
    readers, configs = (demo.learners, short_lived(RETENTION_SECONDS)) if purges else ((), None)
    with fresh_topic(demo.broker, "demo", 1, readers, configs) as stream, Children() as children:
        runs = _stream(demo, scenario, stream, children, console)
        write_report(runs, folder / "report.html")
        console.print(display.results(runs))
        verdicts = {} if policy is None else judge(folder, demo.learners, policy, stream)
        for learner, verdict in verdicts.items():
            console.print(as_table(verdict, f"{learner} under the policy {demo.policy}"))
        console.print(f"report: {(folder / 'report.html').resolve()}")
        for run in runs:
            console.print(f"{run.learner}: {(folder / run.learner).resolve()}")
        if demo.keep_serving:
            console.print("still serving; Ctrl-C ends it")
            _wait_for_ever(children)
    return Shown(runs, verdicts)


def document(demo: Demo, shown: Shown) -> dict[str, Any]:
    """Return the demo's result as plain JSON; accuracies are ratios from 0 to 1."""
    runs = shown.runs
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
                "accuracy_by_class": run.classes[-1].accuracy if run.classes else {},
                "boundaries": run.boundaries.model_dump(),
                "samples": run.samples.model_dump(),
                "dead_letters": run.dead_letters,
                "samples_per_second": run.samples_per_second,
                "seconds": run.seconds,
                "evaluation_seconds": run.evaluation_seconds,
                "peak_rss_bytes": run.peak_rss_bytes,
                "audit": as_json(shown.verdicts[run.learner]) if run.learner in shown.verdicts else None,
            }
            for run in runs
        },
    }


def _chosen(names: Sequence[str], policy: Policy | None) -> Sequence[str]:
    """Return the learners to show; those that are named must be allowed, otherwise there is a choice."""
    if len(set(names)) < len(names):
        raise InvalidSetting(f"learner: one is named twice in {', '.join(names)}")
    for name in names:
        _check_learner(name, policy)
    if names:
        return names
    for choice in (SHOWN, LEARNERS):
        allowed = [name for name in choice if _allowed(name, policy)]
        if allowed:
            return allowed if choice is SHOWN else allowed[:1]
    raise InvalidSetting(f"policy {policy and policy.name} allows none of {', '.join(LEARNERS)}")


def _check_learner(name: str, policy: Policy | None) -> None:
    kind = find(name)
    if policy is not None:
        policy.check_learner(kind)
        within_budget(policy, Settings.read({"learner": {"name": name}}))


def _allowed(name: str, policy: Policy | None) -> bool:
    try:
        _check_learner(name, policy)
    except InvalidSetting:
        return False
    return True


def _stream(
    demo: Demo, scenario: Scenario, stream: StreamSettings, children: Children, console: Console
) -> list[RunResult]:
    ports = {learner: free_port() for learner in demo.learners}
    total = scenario.total(demo.samples)
    for learner, port in ports.items():
        settings = environment(_settings(demo, learner, port, total, stream))
        log = demo.report / learner / LOG
        children.start(f"service {learner}", "service.cli", ["run"], log, settings)
    secured = {variable("stream", "security"): json.dumps(dict(stream.security))} if stream.security else {}
    states = {learner: f"http://127.0.0.1:{port}/state" for learner, port in ports.items()}
    children.start(
        "producer", "producers", _producer(demo, stream, states), demo.report / "producer.log", secured
    )
    _watch(demo, states, total, [segment.subject for segment in scenario.subjects], children, console)
    return [
        RunResult.read(demo.report / learner / "run.json").model_copy(
            update={"scenario": scenario.name, "broker": demo.broker_name}
        )
        for learner in demo.learners
    ]


def _settings(demo: Demo, learner: str, port: int, total: int, stream: StreamSettings) -> Settings:
    folder = demo.report / learner
    groups = {name: f"{stream.topic}-{name}" for name in demo.learners}
    own = {"group": groups.pop(learner), "shared_with": ",".join(groups.values()), "stop_after": total}
    return Settings.read(
        {
            "stream": stream.model_dump(exclude_unset=True) | own,
            "privacy": {"policy": demo.policy},
            "batch": {"size": find(learner).batch_size},
            "learner": {"name": learner, "seed": demo.seed, "threads": demo.threads},
            "evaluation": {"probes": demo.report / "probes"},
            "checkpoint": {"folder": folder / STATE, "fresh": True},
            "serve": {"port": port, "keep": demo.keep_serving},
            "run": {"report": folder},
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
    words = ["stream", "--no-progress"]
    words += [str(word) for pair in arguments.items() if pair[1] is not None for word in pair]
    if demo.broker is None:  # a real cluster keeps what the services have not read yet
        words += ["--window", str(WINDOW)]
        words += [word for url in states.values() for word in ("--hold-back", url)]
    return words


def _watch(
    demo: Demo,
    states: Mapping[str, str],
    total: int,
    probes: Sequence[str],
    children: Children,
    console: Console,
) -> None:
    """Show the services' progress until each has left its result."""
    seen: dict[str, Any] = dict.fromkeys(states)
    with httpx.Client(timeout=2.0) as client, Live(console=console, refresh_per_second=4) as live:
        while not all((demo.report / learner / "run.json").exists() for learner in states):
            children.check()
            for learner, url in states.items():
                try:
                    seen[learner] = client.get(url).json()
                except httpx.TransportError:
                    continue  # it is starting, or has ended and left its result
            live.update(display.progress(seen, total, probes))
            time.sleep(REFRESH_SECONDS)
        children.check()
    console.print()  # what was shown last ends without a line of its own


def _wait_for_ever(children: Children) -> None:
    try:
        while True:
            children.check()
            time.sleep(REFRESH_SECONDS)
    except KeyboardInterrupt:
        return
