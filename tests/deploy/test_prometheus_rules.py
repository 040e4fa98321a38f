"""Prometheus' rules and configuration: they load, fire as expected, and each alert has a runbook entry."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.monitoring import DEPLOY, NOT_OURS, exported, metrics_in, recorded, rules

PROMETHEUS = DEPLOY / "prometheus"
RULE_FILES = sorted((PROMETHEUS / "rules").glob("*.yaml"))
TEST_FILES = sorted((PROMETHEUS / "tests").glob("*.yaml"))
ALERTS = [rule for rule in rules() if "alert" in rule]
RUNBOOK = (DEPLOY.parent / "docs" / "pages" / "runbook.md").read_text()


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(
        ["promtool", *arguments], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.needs("prometheus")
def test_promtool_accepts_the_configuration_and_every_rule_file_is_in_it() -> None:
    promtool("check", "config", "prometheus.yml")
    promtool("check", "rules", "--lint-fatal", *RULE_FILES)
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    included = {path for pattern in config["rule_files"] for path in PROMETHEUS.glob(pattern)}
    assert included == set(RULE_FILES)


@pytest.mark.needs("prometheus")
def test_uncommenting_the_lines_configures_an_alertmanager(tmp_path: Path) -> None:
    bare = re.sub(r"^#   ", "", (PROMETHEUS / "prometheus.yml").read_text(), flags=re.MULTILINE)
    file = tmp_path / "prometheus.yml"
    file.write_text(bare)
    assert yaml.safe_load(bare)["alerting"]["alertmanagers"]
    promtool("check", "config", file)


@pytest.mark.needs("prometheus")
@pytest.mark.parametrize("file", TEST_FILES, ids=lambda file: file.stem)
def test_alerts_fire_and_are_silent_as_written(file: Path) -> None:
    promtool("test", "rules", file)


def expectations() -> dict[str, list[list[Any]]]:
    """For each alert, what its tests expect."""
    found: dict[str, list[list[Any]]] = {}
    for file in TEST_FILES:
        for test in yaml.safe_load(file.read_text())["tests"]:
            for case in test["alert_rule_test"]:
                found.setdefault(case["alertname"], []).append(case["exp_alerts"])
    return found


@pytest.mark.parametrize("alert", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_is_tested_both_firing_and_silent(alert: dict[str, Any]) -> None:
    expected = expectations()[alert["alert"]]
    assert any(expected), "it is never seen firing"
    assert not all(expected), "it is never seen silent"


@pytest.mark.parametrize("alert", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_says_how_bad_it_is_and_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert set(alert["annotations"]) == {"summary", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"docs/pages/runbook.md#{alert['alert'].lower()}"
    _, _, section = RUNBOOK.partition(f"\n## {alert['alert']}\n")
    section = section.split("\n## ")[0]
    for part in ("**Means.**", "**Look.**", "**Do.**"):
        assert part in section, f"{alert['alert']} lacks {part}"


def test_the_runbook_has_no_section_for_a_removed_alert() -> None:
    sections = re.findall(r"^## (.*)$", RUNBOOK, re.MULTILINE)
    assert sorted(sections) == sorted(rule["alert"] for rule in ALERTS)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_every_metric_that_a_rule_names_is_exported_or_recorded(rule: dict[str, Any]) -> None:
    series = {name for names in exported().values() for name in names}
    assert metrics_in(rule["expr"]) <= series | recorded() | NOT_OURS


@pytest.mark.parametrize("name", sorted(recorded()))
def test_a_recorded_name_is_level_metric_operation(name: str) -> None:
    assert re.fullmatch(r"lethe:[a-z_]+:[a-z0-9_]+", name)
