"""The stack of compose.yaml without Docker: the same processes, settings and configuration files.

    python deploy/stack.py --samples 5000

Prints where each part can be reached and runs until SIGTERM or Ctrl-C. Its data stay in the
folder, so that the next start goes on from there; Grafana is started where it is installed.
"""

import argparse
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from a checkout

import httpx

from deploy.composition import Composition
from deploy.grafana.command import find_grafana, grafana_command
from deploy.kafka.jars import NodeError
from deploy.kafka.kraft import KafkaNode, free_port
from deploy.pairs import pair
from deploy.prometheus.files import write_prometheus
from service.demo.processes import Children
from service.errors import LetheError
from service.stream.cluster import ensure_topic
from service.stream.settings import StreamSettings

__all__ = ["NotReady", "Plan", "Stack", "main", "run"]

DEPLOY: Final = Path(__file__).resolve().parent
HOST: Final = "127.0.0.1"
READY_SECONDS: Final = 180.0
REFRESH_SECONDS: Final = 0.5


class NotReady(LetheError):
    """A part of the stack is not installed, or did not become ready in time."""


@dataclass(frozen=True)
class Plan:
    """What differs from compose.yaml."""

    folder: Path = Path("lethe-stack")
    """Data, checkpoints and logs."""
    samples: int | None = None
    """At most so many of each segment."""
    probes: Path | None = None
    """Probe sets to use; None writes the scenario's, once."""
    interval: str | None = None
    """How often Prometheus scrapes and evaluates its rules."""
    free_ports: bool = False
    """Whether to take any free ports instead of those that compose.yaml publishes."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Variables of the services."""


class Stack:
    """Starts the parts of compose.yaml one by one; ``addresses`` has where each can be reached.

    The methods are called in their order. They raise LetheError when a part cannot start.
    """

    def __init__(self, plan: Plan, children: Children) -> None:
        self._plan, self._children = plan, children
        self._compose = Composition()
        program = shutil.which("prometheus")
        if program is None:  # said before anything is started
            raise NotReady("no prometheus in PATH (Debian: apt install prometheus)")
        self._prometheus = program
        self.addresses: dict[str, str] = {}

    @contextmanager
    def broker(self) -> Iterator[None]:
        """Run Kafka with the topic; stop it on exit, after everything else."""
        folder, properties = self._plan.folder / "kafka", self._compose.broker_properties()
        with KafkaNode(folder, port=self._port("kafka"), properties=properties) as node:
            self.addresses["kafka"] = node.bootstrap_servers
            topic, partitions = (self._compose.option("topic", name) for name in ("--topic", "--partitions"))
            stream = StreamSettings(bootstrap_servers=node.bootstrap_servers, topic=topic)
            ensure_topic(stream, topic, int(partitions))
            yield

    def learners(self) -> None:
        """Start the services, each with its own state, and wait until they are ready."""
        probes = self._plan.probes or self._write_probes()
        for learner in self._compose.learners:
            folder, port = self._plan.folder / learner, self._port(learner)
            places = self._places({"/probes": probes, "/state": folder / "state", "0.0.0.0": HOST})  # noqa: S104 - replaced
            settings = _native(self._compose.environment(learner), places)
            settings |= {"LETHE_SERVE__PORT": str(port), **self._plan.settings}
            self._children.start(learner, "service.cli", ["run"], folder / "service.log", settings)
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
        """Start Grafana and wait until it is ready; tell whether it is installed at all."""
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
        """Start the stream."""
        words = [_replaced(word, self._places({})) for word in self._compose.command("producer")]
        words += [] if self._plan.samples is None else ["--samples", str(self._plan.samples)]
        self._children.start("producer", "producers", words, self._plan.folder / "producer.log", {})

    def _write_probes(self) -> Path:
        probes = self._plan.folder / "probes"
        if not any(probes.glob("*.safetensors")):
            words = ["probes", "--out", str(probes)]
            log = self._plan.folder / "probes.log"
            try:
                self._children.start("probes", "producers", words, log, {}).wait(READY_SECONDS)
            except subprocess.TimeoutExpired:
                raise NotReady(f"no probes after {READY_SECONDS:.0f} s; their log is {log}") from None
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
                pass  # it is starting
            time.sleep(REFRESH_SECONDS)
        raise NotReady(f"{url} was not ready within {READY_SECONDS:.0f} s")


def _native(settings: Mapping[str, str], places: Mapping[str, str]) -> dict[str, str]:
    return {name: _replaced(value, places) for name, value in settings.items()}


def _replaced(value: str, places: Mapping[str, str]) -> str:
    """Return a word of compose.yaml with its hosts and folders as they are on this machine."""
    for inside, here in places.items():
        value = value.replace(inside, here)
    return value


def run(plan: Plan) -> NoReturn:
    """Run the stack until it is interrupted. Raises LetheError or NodeError when a part fails."""
    children = Children()
    stack = Stack(plan, children)
    with stack.broker(), children:  # the broker is the last to stop
        stack.learners()
        stack.prometheus()
        if not stack.grafana():
            print("no grafana in PATH: its dashboards are in deploy/grafana/dashboards", file=sys.stderr)
        stack.producer()
        for name, address in stack.addresses.items():
            print(f"{name:12}{address}", flush=True)
        print(f"the stream is running, logs are in {plan.folder}; Ctrl-C ends it", flush=True)
        while True:
            children.check()
            time.sleep(REFRESH_SECONDS)


def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="stack.py", description="The stack of compose.yaml without Docker.")
    parser.add_argument(
        "--dir", type=Path, default=Plan.folder, help="data, checkpoints and logs [%(default)s]"
    )
    parser.add_argument("--samples", type=int, help="at most so many of each segment")
    parser.add_argument("--probes", type=Path, help="folder of probe sets [the scenario's own]")
    parser.add_argument("--interval", help="how often Prometheus scrapes and evaluates, such as 1s")
    parser.add_argument("--free-ports", action="store_true", help="any free ports, not the usual ones")
    parser.add_argument("--set", type=pair, action="append", default=[], metavar="LETHE_X__Y=VALUE")
    given = parser.parse_args()
    plan = Plan(given.dir, given.samples, given.probes, given.interval, given.free_ports, dict(given.set))
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
