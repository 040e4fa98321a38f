"""A Prometheus that scrapes ``lethe watch`` raises the alerts of a run for a watched model."""

import time
from pathlib import Path

import pytest

from lethe.probeset import save_probe
from tests.support.prometheus import monitoring
from tests.support.waiting import until
from tests.support.watched import Model, model_server, probes_of, serving
from tests.support.watching import watching

pytestmark = pytest.mark.needs("prometheus")


def test_a_forgotten_skill_is_an_alert_within_two_evaluations(tmp_path: Path) -> None:
    for order, probe in enumerate(probes_of("ab")):
        save_probe(probe, tmp_path / "probes", order)
    model, known = Model("a"), 'lethe_probe_accuracy_ratio{service="digits", probe="a", source="watched"}'
    with serving(model_server(model)) as address:
        arguments = ["--probes", tmp_path / "probes", "--url", f"{address}/v2/models/digits/infer"]
        arguments += ["--every", "4"]
        with (
            watching(arguments, tmp_path / "log") as started,
            monitoring(tmp_path, "digits", started.port) as monitor,
        ):
            until(lambda: monitor.value(known) == 1.0, "the first evaluation is scraped")
            assert monitor.fired("LetheProbeForgotten", probe="a") is None
            model.knows, retrained = "b", time.time()
            until(lambda: monitor.fired("LetheProbeForgotten", probe="a") is not None, "the alert fires")
            fired = monitor.fired("LetheProbeForgotten", probe="a")
            assert fired is not None
            assert 1 <= monitor.evaluations(retrained, fired) <= 2
            assert monitor.fired("LetheProbeForgotten", probe="b") is None
            assert monitor.value('lethe_target_up{service="digits"}') == 1.0
