"""The stack of compose.yaml without Docker: the same processes, settings and configuration files.

    python deploy/stack.py --samples 5000

Prints the address of each component and runs until SIGTERM or Ctrl-C. Data stay in the folder, and the
next start resumes from them. Grafana is started if it is installed.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, from a checkout

import httpx

from deploy.compose_file import Composition
from deploy.grafana.command import find_grafana, grafana_command
from deploy.kafka.jars import NodeError
from deploy.kafka.kraft import KafkaNode, free_port
from deploy.kafka.node import pair
from deploy.prometheus.files import write_prometheus
from lethe.errors import LetheError
from lethe.experiments.processes import Children
from lethe.settings import variable
from lethe.stream.admin import ensure_topic
from lethe.stream.settings import StreamSettings
from lethe_producers.scenario import load_scenario

__all__ = ["NotReady", "Plan", "Stack", "main", "run"]

DEPLOY: Final = Path(__file__).resolve().parent
HOST: Final = "127.0.0.1"
READY_SECONDS: Final = 180.0
REFRESH_SECONDS: Final = 0.5
EVALUATIONS: Final = 20
"""Evaluations over the stream of a scenario that is given."""


class NotReady(LetheError):
    """A component of the stack is not installed or did not become ready in time."""


@dataclass(frozen=True)
class Plan:
    """Options of the stack that differ from compose.yaml."""

    folder: Path = Path("lethe-stack")
    """Data, checkpoints and logs."""
    samples: int | None = None
    """Limit of samples per segment."""
    scenario: str | None = None
    """Scenario to stream, by name or file; None is that of compose.yaml. A folder holds one scenario."""
    probes: Path | None = None
    """Folder of probe sets; None writes the scenario's own on the first start."""
    interval: str | None = None
    """Prometheus' scrape and evaluation interval, such as ``1s``; None is that of prometheus.yml."""
    free_ports: bool = False
    """Use any free ports instead of those published by compose.yaml."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the services."""


class Stack:
    """Starts the components of compose.yaml one by one; ``addresses`` maps each to its address.

    Call the methods in the order in which they are defined. They raise LetheError when a component cannot
    start.
    """

    def __init__(self, plan: Plan, children: Children) -> None:
        self._plan, self._children = plan, children
        chosen = {} if plan.scenario is None else {"LETHE_SCENARIO": plan.scenario}
        self._compose = Composition(variables={**os.environ, **chosen})
        self._scenario = None if plan.scenario is None else load_scenario(plan.scenario)
        program = shutil.which("prometheus")
        if program is None:  # reported before anything is started
            raise NotReady("no prometheus in PATH (Debian: apt install prometheus)")
        self._prometheus = program
        self.addresses: dict[str, str] = {}

    @contextmanager
    def broker(self) -> Iterator[None]:
        """Run Kafka and create the topic; stop Kafka on exit."""
        folder, properties = self._plan.folder / "kafka", self._compose.broker_properties()
        with KafkaNode(folder, port=self._port("kafka"), properties=properties) as node:
            self.addresses["kafka"] = node.bootstrap_servers
            topic, partitions = (self._compose.option("topic", name) for name in ("--topic", "--partitions"))
            stream = StreamSettings(bootstrap_servers=node.bootstrap_servers, topic=topic)
            ensure_topic(stream, topic, int(partitions))
            yield

    def learners(self) -> None:
        """Start the services, each with its own state folder, and wait until they are ready."""
        probes = self._plan.probes or self._write_probes()
        for learner in self._compose.learners:
            folder, port = self._plan.folder / learner, self._port(learner)
            places = self._places({"/probes": probes, "/state": folder / "state", "0.0.0.0": HOST})  # noqa: S104 - replaced
            settings = _native(self._compose.environment(learner), places)
            settings |= {"LETHE_SERVE__PORT": str(port), **self._for_scenario(), **self._plan.settings}
            self._children.start(learner, "lethe", ["run"], folder / "service.log", settings)
            self.addresses[learner] = f"http://{HOST}:{port}"
        for learner in self._compose.learners:
            self._await(f"{self.addresses[learner]}/readyz")

    def prometheus(self) -> None:
        """Start Prometheus and wait until it is ready."""
        folder, port = self._plan.folder, self._port("prometheus")
        targets = {name: self.addresses[name].removeprefix("http://") for name in self._compose.learners}
        config = write_prometheus(folder / "prometheus", targets, self._plan.interval)
        places = {"/etc/prometheus/prometheus.yml": str(config), "=/prometheus": f"={folder / 'metrics'}"}
        arguments = [_replaced(word, places) for word in self._compose.command("prometheus")]
        command = [self._prometheus, *arguments, f"--web.listen-address={HOST}:{port}"]
        self._children.run("prometheus", command, folder / "prometheus.log", {})
        self.addresses["prometheus"] = f"http://{HOST}:{port}"
        self._await(f"{self.addresses['prometheus']}/-/ready")

    def grafana(self) -> bool:
        """Start Grafana and wait until it is ready; return False if it is not installed."""
        program = find_grafana()
        if program is None:
            return False
        port, folder = self._port("grafana"), self._plan.folder / "grafana"
        dashboards = DEPLOY / "grafana" / "dashboards"
        places = {
            "http://prometheus:9090": self.addresses["prometheus"],
            "/etc/lethe/dashboards": str(dashboards),
        }
        settings = _native(self._compose.environment("grafana"), places)
        command, settings = grafana_command(program, folder.resolve(), port, settings)
        self._children.run("grafana", command, self._plan.folder / "grafana.log", settings)
        self.addresses["grafana"] = f"http://{HOST}:{port}"
        self._await(f"{self.addresses['grafana']}/api/health")
        return True

    def producer(self) -> None:
        """Start the producer."""
        words = [_replaced(word, self._places({})) for word in self._compose.command("producer")]
        words += [] if self._plan.samples is None else ["--samples", str(self._plan.samples)]
        self._children.start("producer", "lethe_producers", words, self._plan.folder / "producer.log", {})

    def _for_scenario(self) -> dict[str, str]:
        """Return the settings with which a service learns the scenario, and is evaluated often enough."""
        if self._scenario is None:
            return {}
        layout = self._scenario.layout.model_dump(exclude_unset=True)
        every = max(1, self._scenario.total(self._plan.samples) // EVALUATIONS)
        return {variable("sample", name): str(value) for name, value in layout.items()} | {
            variable("evaluation", "every"): str(every)
        }

    def _write_probes(self) -> Path:
        probes = self._plan.folder / "probes"
        if not any(probes.glob("*.safetensors")):
            words = ["probes", "--out", str(probes)]
            words += [] if self._plan.scenario is None else ["--scenario", self._plan.scenario]
            log = self._plan.folder / "probes.log"
            try:
                self._children.start("probes", "lethe_producers", words, log, {}).wait(READY_SECONDS)
            except subprocess.TimeoutExpired:
                raise NotReady(f"no probe sets after {READY_SECONDS:.0f} s; see {log}") from None
            self._children.check()
        return probes

    def _places(self, places: Mapping[str, Path | str]) -> dict[str, str]:
        return {
            "kafka:9092": self.addresses["kafka"],
            **{inside: str(here) for inside, here in places.items()},
        }

    def _port(self, part: str) -> int:
        return free_port() if self._plan.free_ports else self._compose.port(part)

    def _await(self, url: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            self._children.check()
            try:
                if httpx.get(url, timeout=5).is_success:
                    return
            except httpx.TransportError:
                pass  # still starting
            time.sleep(REFRESH_SECONDS)
        raise NotReady(f"{url} was not ready within {READY_SECONDS:.0f} s")


def _native(settings: Mapping[str, str], places: Mapping[str, str]) -> dict[str, str]:
    return {name: _replaced(value, places) for name, value in settings.items()}


def _replaced(value: str, places: Mapping[str, str]) -> str:
    """Replace the hosts and folders of compose.yaml in ``value`` by those of this machine."""
    for inside, here in places.items():
        value = value.replace(inside, here)
    return value


def run(plan: Plan) -> NoReturn:
    """Run the stack until it is interrupted. Raises LetheError or NodeError when a part fails."""
    children = Children()
    stack = Stack(plan, children)
    with stack.broker(), children:  # the broker stops last
        stack.learners()
        stack.prometheus()
        if not stack.grafana():
            print(
                "no grafana in PATH, not started; the dashboards are in deploy/grafana/dashboards",
                file=sys.stderr,
            )
        stack.producer()
        for name, address in stack.addresses.items():
            print(f"{name:12}{address}", flush=True)
        print(f"streaming; logs are in {plan.folder}; press Ctrl-C to stop", flush=True)
        while True:
            children.check()
            time.sleep(REFRESH_SECONDS)


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(prog="stack.py", description="The stack of compose.yaml without Docker.")
    parser.add_argument(
        "--dir", type=Path, default=Plan.folder, help="data, checkpoints and logs [%(default)s]"
    )
    parser.add_argument("--samples", type=int, help="limit of samples per segment")
    parser.add_argument(
        "--scenario",
        help="name or file of the scenario [default: that of compose.yaml]; needs a --dir of its own",
    )
    parser.add_argument("--probes", type=Path, help="folder of probe sets [default: the scenario's own]")
    parser.add_argument("--interval", help="scrape and evaluation interval of Prometheus, such as 1s")
    parser.add_argument("--free-ports", action="store_true", help="use any free ports")
    parser.add_argument("--set", type=pair, action="append", default=[], metavar="LETHE_X__Y=VALUE")
    given = parser.parse_args()
    plan = Plan(
        given.dir,
        given.samples,
        given.scenario,
        given.probes,
        given.interval,
        given.free_ports,
        dict(given.set),
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end as KeyboardInterrupt
    try:
        run(plan)
    except KeyboardInterrupt:
        return 0
    except (LetheError, NodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
