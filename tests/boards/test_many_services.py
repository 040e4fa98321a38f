"""The dashboards of 12 services, and of 20 segments: drawn from made-up metrics."""

import math
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest
from playwright.sync_api import Browser

from deploy.kafka.kraft import free_port
from tests.support.boards import Drawing, draw
from tests.support.monitoring import dashboards

pytestmark = pytest.mark.needs("prometheus", "chromium", "boards")

STEP: Final = 15
END: Final = int(time.time()) // STEP * STEP
MINUTES: Final = 30
TIMES: Final = range(END - 60 * MINUTES, END + 1, STEP)


class Made:
    """Metrics of services that learn one segment after another, of which every other one forgets."""

    def __init__(self, services: int, segments: int) -> None:
        self.services = [f"service-{number}" for number in range(services)]
        self.probes = [f"skill-{number}" for number in range(segments)]
        self.alerts = 0
        """Firing at the end."""
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
                        self.alerts += at == END
                        self._add("ALERTS", 1, at, alertstate="firing", **alert, **of)
                        self._add("ALERTS_FOR_STATE", END - 300, at, **alert, **of)
                if at == END:
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


@pytest.fixture(scope="module", params=[(2, 20), (12, 2)], ids=["20 segments", "12 services"])
def made(request: pytest.FixtureRequest) -> Made:
    return Made(*request.param)


@pytest.fixture(scope="module")
def prometheus(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("prometheus")
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
            await_ready(f"http://127.0.0.1:{port}/-/ready")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def await_ready(address: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if httpx.get(address, timeout=5).is_success:
                return
        except httpx.TransportError:
            pass  # still starting
        time.sleep(0.2)
    raise AssertionError(f"{address} does not answer")


def drawn(browser: Browser, prometheus: str, uid: str) -> Drawing:
    (board,) = (board for board in dashboards() if board["uid"] == uid)
    drawing = draw(browser, board, prometheus, TIMES[0], END, scrape=STEP)
    assert [panel.error for panel in drawing.panels if panel.error] == []
    assert (drawing.complaints, drawing.blank) == ((), ())
    return drawing


def test_each_service_has_a_line_in_sight(browser: Browser, prometheus: str, made: Made) -> None:
    lines = drawn(browser, prometheus, "lethe-overview").text("Services")
    assert [service for service in made.services if service not in lines] == []


def test_vital_signs_show_the_three_worst_services(browser: Browser, prometheus: str, made: Made) -> None:
    board = drawn(browser, prometheus, "lethe-forgetting")
    worst = made.services[:-4:-1] if len(made.services) < 4 else [made.services[n] for n in (11, 9, 7)]
    shown = board.text("Is it forgetting?").split()
    assert [word for word in shown if word in made.services] == worst
    for service in made.services:
        accuracy = board.panel(f"Accuracy on each probe: {service}")
        assert set(made.probes) <= set(accuracy.colours)
        R = f"R after each segment: {service}"
        numbered = tuple(f"{place} {probe}" for place, probe in enumerate(made.probes, start=1))
        assert board.panel(R).headers == ("after segment", *numbered), "in the order of the segments"
        assert numbered[-2] in board.text(R), "the latest segment that has ended is in sight"
        panel = board.page.locator(f'[data-panel="{R}"]')
        edges = [item.bounding_box() for item in (panel, panel.locator("[role=columnheader]").last)]
        ends = [box["x"] + box["width"] for box in edges if box is not None]
        assert ends[1] <= ends[0], "no column is out of sight"


def test_six_skills_and_six_alerts_are_in_sight(browser: Browser, prometheus: str, made: Made) -> None:
    board = drawn(browser, prometheus, "lethe-forgetting")
    for title in ("Firing alerts", "Forgotten now"):
        panel = board.page.locator(f'[data-panel="{title}"]')
        rows = panel.locator("[role=row]")  # the first one is the heading
        boxes = [item.bounding_box() for item in (panel, rows.nth(min(6, made.alerts)))]
        ends = [box["y"] + box["height"] for box in boxes if box is not None]
        assert ends[1] <= ends[0], title
    alerts = board.text("Firing alerts")
    assert "critical" not in alerts.partition("warning")[2], "the critical ones first"
    place = board.page.locator('[data-panel="Forgetting"]').bounding_box()
    assert place is not None
    assert place["y"] < 600, "the charts begin on the first screen"
