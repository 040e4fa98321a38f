"""A Prometheus with the rules of deploy/ that scrapes one service."""

import math
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from deploy.kafka.kraft import free_port
from deploy.prometheus.files import write_prometheus
from tests.support.waiting import until

__all__ = ["Monitor", "ask", "monitoring"]

STEP: Final = 0.5
"""Seconds between two looks at a series: less than between two scrapes."""


def ask(address: str, path: str, **parameters: Any) -> Any:
    """Return what the Prometheus at ``address`` answers to a request to its API."""
    answer = httpx.get(f"{address}/api/v1/{path}", params=parameters, timeout=60)
    assert answer.status_code == 200, f"{parameters}: {answer.text}"
    return answer.json()["data"]


@dataclass(frozen=True)
class Monitor:
    """The Prometheus at ``address``; it scrapes, and evaluates its rules, every second."""

    address: str
    service: str
    """Its name in the label of every series."""
    began: float

    def value(self, expression: str) -> float | None:
        """The present value of the one series; None if there is none."""
        found = ask(self.address, "query", query=expression)["result"]
        return float(found[0]["value"][1]) if found else None

    def fired(self, alert: str, **labels: str) -> float | None:
        """Since when, in whole seconds, an alert without a waiting time fires; None if it does not."""
        chosen = {"alertname": alert, "service": self.service} | labels
        series = ", ".join(f'{name}="{value}"' for name, value in chosen.items())
        if self.value(f'ALERTS{{alertstate="firing", {series}}}') is None:
            return None
        return self.value(f"ALERTS_FOR_STATE{{{series}}}")

    def evaluations(self, after: float, until: float) -> int:
        """How many evaluations of the probes that ended after ``after`` were scraped up to ``until``.

        ``until`` is in whole seconds, as `fired` has it: what was scraped in that second counts, too.
        """
        times = {
            "start": math.floor(after),
            "end": until + 1,
            "step": STEP,
        }  # the last step is the end itself
        query = f'lethe_last_evaluation_timestamp_seconds{{service="{self.service}"}}'
        (series,) = ask(self.address, "query_range", query=query, **times)["result"]
        return len({ended for _, at in series["values"] if (ended := float(at)) > after})


@contextmanager
def monitoring(folder: Path, service: str, port: int) -> Iterator[Monitor]:
    """Run a Prometheus in ``folder`` that scrapes 127.0.0.1:``port`` every second as ``service``."""
    address = f"127.0.0.1:{port}"
    config = write_prometheus(folder / "prometheus", {"finetune": address, "ridge": address}, "1s")
    only = [{"targets": [address], "labels": {"service": service}}]
    (config.parent / "targets" / "stack.yaml").write_text(yaml.safe_dump(only))
    own = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'metrics'}"]
    with (
        (folder / "prometheus.log").open("w") as log,
        subprocess.Popen([*command, f"--web.listen-address={own}"], stderr=log) as process,
    ):

        def ready() -> bool:
            assert process.poll() is None, (folder / "prometheus.log").read_text()
            try:
                return httpx.get(f"http://{own}/-/ready", timeout=5).is_success
            except httpx.TransportError:
                return False  # still starting

        try:
            until(ready, "Prometheus is ready")
            yield Monitor(f"http://{own}", service, time.time())
        finally:
            process.terminate()
