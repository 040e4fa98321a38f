"""A Prometheus that scrapes ``lethe watch`` raises the alerts of a run for a watched model."""

import os
import signal
import time
from pathlib import Path

import pytest

from deploy.kafka.kraft import free_port
from lethe.probeset import save_probe
from tests.support.prometheus import monitoring
from tests.support.services import Command
from tests.support.waiting import until
from tests.support.watched import Model, model_server, probes_of, serving

pytestmark = pytest.mark.needs("prometheus")


def test_a_forgotten_skill_is_an_alert_within_two_evaluations(tmp_path: Path) -> None:
    for order, probe in enumerate(probes_of("ab")):
        save_probe(probe, tmp_path / "probes", order)
    model, port = Model("a"), free_port()
    with serving(model_server(model)) as address, monitoring(tmp_path, "digits", port) as monitor:
        arguments = ["watch", "--probes", tmp_path / "probes", "--url", f"{address}/v2/models/digits/infer"]
        arguments += ["--every", "4", "--port", port]
        watching = Command([*map(str, arguments)], dict(os.environ), tmp_path / "log")
        try:
            knows = 'lethe_probe_accuracy_ratio{service="digits", probe="a", source="watched"}'
            until(lambda: monitor.value(knows) == 1.0, "the first evaluation is scraped")
            assert monitor.fired("LetheProbeForgotten", probe="a") is None
            model.knows, retrained = "b", time.time()
            until(lambda: monitor.fired("LetheProbeForgotten", probe="a") is not None, "the alert fires")
            fired = monitor.fired("LetheProbeForgotten", probe="a")
            assert fired is not None
            assert 1 <= monitor.evaluations(retrained, fired) <= 2
            assert monitor.fired("LetheProbeForgotten", probe="b") is None
            assert monitor.value('lethe_target_up{service="digits"}') == 1.0
        finally:
            watching.send(signal.SIGTERM)
        assert watching.wait(120) == 0, (tmp_path / "log").read_text()
