"""Metrics of made-up services, and a Prometheus that has them."""

import math
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx

from deploy.kafka.kraft import free_port

__all__ = ["CLASSES", "END", "STEP", "TIMES", "Made", "serve"]

STEP: Final = 15
"""Seconds from one scrape to the next."""
END: Final = int(time.time()) // STEP * STEP
MINUTES: Final = 30
TIMES: Final = range(END - 60 * MINUTES, END + 1, STEP)
CLASSES: Final = 12
"""Of each probe."""


class Made:
    """Metrics of services that learn one segment after another, of which every other one forgets."""

    def __init__(self, services: int, segments: int) -> None:
        self.services = [f"service-{number}" for number in range(services)]
        self.probes = [f"skill-{number}" for number in range(segments)]
        self.forgotten: list[str] = []
        """The service of each probe that is below its floor at the end."""
        self._lines: dict[str, list[str]] = {}
        for number, service in enumerate(self.services):
            self._service(service, fades=0.3 * number / services if number % 2 else 0.0)

    def text(self) -> str:
        """The metrics as OpenMetrics, by family."""
        return "\n".join(line for lines in self._lines.values() for line in lines) + "\n# EOF\n"

    def _add(self, name: str, value: float, at: int, **labels: str) -> None:
        inside = ",".join(f'{label}="{content}"' for label, content in labels.items())
        self._lines.setdefault(name, []).append(f"{name}{{{inside}}} {value} {at}")

    def _service(self, service: str, fades: float) -> None:
        of = {"job": "lethe", "instance": service, "service": service}
        length = 60 * MINUTES / len(self.probes)
        for at in TIMES:
            visit = min(len(self.probes), 1 + int((at - TIMES[0]) / length))
            self._add("lethe_build_info", 1, at, learner="ridge", retains="nothing", version="0", **of)
            self._add("lethe_segment_info", 1, at, segment=self.probes[visit - 1], visit=str(visit), **of)
            self._add("lethe_segments_started_total", visit, at, **of)
            self._add("lethe_last_evaluation_timestamp_seconds", at - 7, at, **of)
            self._add("lethe_last_turn_timestamp_seconds", at - 1, at, **of)
            self._add("process_start_time_seconds", TIMES[0], at, **of)
            self._add("up", 1, at, **of)
            self._add("lethe:lag:records", 500, at, **of)
            self._add("lethe:lag:seconds", 3, at, **of)
            self._add("lethe_samples_resident", 64, at, **of)
            self._add("lethe_samples_kept", 0, at, **of)
            surged = {"alertname": "LetheGradientSurged", "severity": "warning", "alertstate": "firing"}
            self._add("ALERTS", 1, at, **surged, **of)
            worst = 0.0
            for place, probe in enumerate(self.probes):
                since = (at - TIMES[0]) / length - place
                best = 0.1 + 0.85 * (1 - math.exp(-6 * min(max(since, 0), 1)))
                lost = fades * (1 - math.exp(-max(since - 1, 0)))
                self._add("lethe_probe_accuracy_ratio", best - lost, at, probe=probe, **of)
                if since > 1:
                    worst = max(worst, lost)
                    self._add("lethe_forgetting_ratio", lost, at, probe=probe, **of)
                    self._add("lethe:probe_best_accuracy:ratio", best, at, probe=probe, **of)
                    self._add("lethe:probe_accuracy_floor:ratio", best - 0.1, at, probe=probe, **of)
                    self._add("lethe:probe_accuracy_noise:ratio", 0.02, at, probe=probe, **of)
                    if lost > 0.1:
                        alert = {"alertname": "LetheProbeForgotten", "severity": "critical", "probe": probe}
                        self.forgotten += [service] if at == END else []
                        self._add("ALERTS", 1, at, alertstate="firing", **alert, **of)
                        self._add("ALERTS_FOR_STATE", END - 300, at, **alert, **of)
                if at == END:
                    for label in range(CLASSES):
                        right = max(0.0, min(1.0, best - lost + 0.01 * (label - CLASSES / 2)))
                        named = {"probe": probe, "class": str(label), "label": str(label)}
                        self._add("lethe_probe_class_accuracy_ratio", right, at, **named, **of)
                    for after in range(len(self.probes)):
                        name = self.probes[after - 1] if after else "untrained"
                        value = 0.1 if place >= after else best - lost * (after - place) / len(self.probes)
                        self._add(
                            "lethe_accuracy_matrix_ratio",
                            value,
                            at,
                            after=str(after),
                            segment=name,
                            column=str(place + 1),
                            probe=probe,
                            **of,
                        )
            self._add("lethe_prequential_accuracy_ratio", 0.9 - worst, at, kind="fading", **of)
            self._add("lethe:forgetting_budget_left:ratio30d", 1 - 5 * worst, at, **of)


@contextmanager
def serve(made: Made, folder: Path) -> Iterator[str]:
    """Run a Prometheus with metrics, and its files in ``folder``; yield its address."""
    config, metrics, blocks = folder / "prometheus.yml", folder / "metrics.txt", folder / "blocks"
    config.write_text("{}\n")
    metrics.write_text(made.text())
    command: list[str | Path] = ["promtool", "tsdb", "create-blocks-from", "openmetrics", metrics, blocks]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    port = free_port()
    server = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={blocks}"]
    server += [f"--web.listen-address=127.0.0.1:{port}"]
    server += ["--query.lookback-delta=14s"]  # series end without the marker that a scrape would leave
    with subprocess.Popen(server, stderr=subprocess.DEVNULL) as process:
        try:
            _await_ready(f"http://127.0.0.1:{port}/-/ready")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _await_ready(address: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if httpx.get(address, timeout=5).is_success:
                return
        except httpx.TransportError:
            pass  # still starting
        time.sleep(0.2)
    raise AssertionError(f"{address} does not answer")
