"""compose.yaml and the image: valid, hardened, started in order, and the same as what `make stack` runs."""

import json
import os
import re
import stat
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.compose_file import COMPOSE, Composition
from deploy.grafana.command import PACKAGED_HOME, find_grafana, grafana_command
from deploy.kafka.kraft import PROPERTIES
from deploy.prometheus.files import write_prometheus
from lethe.runtime.ranks.supported import check_ranks
from lethe.settings import OTHER_VARIABLES, Settings, variable
from tests.support.monitoring import DEPLOY, rules

SCRIPTS = Path(sysconfig.get_path("scripts"))
ONE_SHOT = {"topic", "probes", "producer"}


def program(name: str, *arguments: str) -> str:
    """Run one of the test extra's programs, without any of this machine's variables but PATH."""
    command = [str(SCRIPTS / name), *arguments]
    env = {"PATH": os.environ["PATH"], "HOME": "/nowhere"}
    done = subprocess.run(command, cwd=DEPLOY.parent, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def resolved() -> dict[str, Any]:
    """The file as Docker Compose understands it: validated, merged, with all defaults filled in."""
    loaded: dict[str, Any] = json.loads(
        program("docker-compose", "-f", str(COMPOSE), "config", "--format", "json")
    )
    return loaded


def test_docker_compose_accepts_the_file_without_any_variable_being_set(resolved: dict[str, Any]) -> None:
    services = {"kafka", "topic", "probes", "finetune", "ridge", "producer", "prometheus", "grafana"}
    assert set(resolved["services"]) == services


def test_a_profile_adds_ranks_that_have_a_partition_each(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("-f", str(COMPOSE), "--profile", "ranks", "config", "--format", "json")
    services = json.loads(program("docker-compose", *words))["services"]
    composition = Composition(variables={"LETHE_PARTITIONS": "2"})
    assert "ridge-ranks" in services
    assert "ridge-ranks" not in composition.learners
    for name, value in composition.environment("ridge-ranks").items():
        monkeypatch.setenv(name, value)
    settings = Settings.read({})
    check_ranks(settings)
    assert settings.run.ranks == int(composition.option("topic", "--partitions"))
    assert Composition(variables={}).option("topic", "--partitions") == "1"


def test_every_image_has_a_version(resolved: dict[str, Any]) -> None:
    for name, service in resolved["services"].items():
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", service["image"]), name
        if "build" in service:
            assert service["image"] == f"lethe:{version('lethe')}"


def test_kafka_has_the_version_that_runs_without_docker(resolved: dict[str, Any]) -> None:
    version = re.search(r"<kafka\.version>(.*)</kafka", (DEPLOY / "kafka" / "pom.xml").read_text())
    assert version is not None
    assert resolved["services"]["kafka"]["image"] == f"apache/kafka:{version[1]}"


def test_no_container_can_do_more_than_it_must(resolved: dict[str, Any]) -> None:
    for name, service in resolved["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert int(service["user"].split(":")[0]) > 0, name
        assert int(service["mem_limit"]) >= 2**29, name
        assert not service.get("privileged"), name


def test_ports_are_published_on_the_loopback_address_alone(resolved: dict[str, Any]) -> None:
    ports = [port for service in resolved["services"].values() for port in service.get("ports", [])]
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}
    published = [port["published"] for port in ports]
    assert len(published) == len(set(published))


def test_lasting_data_is_in_volumes(resolved: dict[str, Any]) -> None:
    kept = {
        (name, mount["source"])
        for name, service in resolved["services"].items()
        for mount in service.get("volumes", [])
        if mount["type"] == "volume" and not mount.get("read_only")
    }
    lasting = {(name, name) for name in ("kafka", "finetune", "ridge", "prometheus", "grafana")}
    assert kept == lasting | {("probes", "probes"), ("probes", "data"), ("producer", "data")}


def test_mounts_from_the_checkout_exist_and_are_read_only(resolved: dict[str, Any]) -> None:
    for service in resolved["services"].values():
        for mount in service.get("volumes", []):
            if mount["type"] == "bind":
                assert Path(mount["source"]).exists(), mount
                assert mount["read_only"], mount


def test_each_service_waits_until_its_dependencies_are_healthy(resolved: dict[str, Any]) -> None:
    for name, service in resolved["services"].items():
        for needed, how in service.get("depends_on", {}).items():
            ends = needed in ONE_SHOT
            expected = "service_completed_successfully" if ends else "service_healthy"
            assert how["condition"] == expected, f"{name} on {needed}"
            built_in = "build" in resolved["services"][needed]  # the image brings its own check
            assert ends or built_in or "healthcheck" in resolved["services"][needed], needed
    assert set(resolved["services"]["producer"]["depends_on"]) == {"finetune", "ridge"}


def test_grafana_is_read_only_and_has_no_password(resolved: dict[str, Any]) -> None:
    grafana = resolved["services"]["grafana"]["environment"]
    assert grafana["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert grafana["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert "password" not in COMPOSE.read_text().lower().replace("so no password", "")


@pytest.mark.parametrize("service", Composition().learners)
def test_a_service_is_given_settings_that_exist(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {variable(section, name) for section, name in Settings.fields()} | set(OTHER_VARIABLES)
    given = Composition().environment(service)
    assert set(given) <= known
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert Settings.read({}).learner.name == service


def test_the_retention_that_alerts_assume_is_the_brokers() -> None:
    (believed,) = [
        rule["expr"] for rule in rules() if rule.get("record") == "lethe:decision:retention_seconds"
    ]
    kept = int(Composition().environment("kafka")["KAFKA_LOG_RETENTION_MS"])
    assert believed == f"vector({kept // 1000})"


NATIVE_ALONE = {
    "listener.security.protocol.map": "further listeners, for tests of SASL and TLS",
    "broker.session.timeout.ms": "a killed node is back sooner",
    "broker.heartbeat.interval.ms": "the same",
    "transaction.state.log.num.partitions": "transactions are not used; fewer files",
    "share.coordinator.state.topic.num.partitions": "share groups are not used; fewer files",
    "share.coordinator.state.topic.replication.factor": "the same",
    "share.coordinator.state.topic.min.isr": "the same",
}
"""Broker properties that `make stack` sets and compose.yaml does not, and why."""


def test_the_broker_without_docker_is_given_the_properties_of_compose() -> None:
    given = Composition().broker_properties()
    assert given["log.retention.ms"] == "86400000"
    assert given["offsets.topic.replication.factor"] == "1"
    assert not any("://" in value or "/var" in value or "-X" in value for value in given.values())
    assert set(PROPERTIES) - set(given) == set(NATIVE_ALONE)
    assert {name: value for name, value in PROPERTIES.items() if given.get(name, value) != value} == {}


def test_the_dockerfile_is_what_hadolint_recommends() -> None:
    program("hadolint", "deploy/Dockerfile")


def test_the_image_runs_as_an_unprivileged_user_with_a_health_check() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    last = text.split("\nFROM ")[-1]
    assert "\nUSER 10001:10001\n" in last
    assert "/readyz" in last
    assert "--no-cache-dir" in text


def test_the_image_is_compiled_when_it_is_built() -> None:
    assert "--no-compile" not in (DEPLOY / "Dockerfile").read_text(), "the container cannot write there"


def test_the_image_is_built_from_files_that_are_there() -> None:
    listed = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in listed if line.startswith("!")]
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert sorted(" ".join(copied).split()) == sorted(allowed)
    assert all((DEPLOY.parent / path).exists() for path in allowed)


def test_variables_override_defaults() -> None:
    assert Composition(variables={}).option("producer", "--rate") == "500"
    assert Composition(variables={"LETHE_RATE": "9"}).option("producer", "--rate") == "9"


def test_prometheus_runs_the_same_rules_and_other_addresses_without_docker(tmp_path: Path) -> None:
    addresses = {"finetune": "127.0.0.1:1", "ridge": "127.0.0.1:2"}
    path = write_prometheus(tmp_path / "prometheus", addresses, interval="1s")
    config = yaml.safe_load(path.read_text())
    original = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    assert set(config["global"].values()) == {"1s"}
    assert {**config, "global": 0} == {**original, "global": 0}
    for file in (DEPLOY / "prometheus" / "rules").iterdir():
        assert (path.parent / "rules" / file.name).read_bytes() == file.read_bytes()
    (targets,) = (path.parent / "targets").iterdir()
    found = {group["labels"]["service"]: group["targets"] for group in yaml.safe_load(targets.read_text())}
    assert found == {name: [address] for name, address in addresses.items()}


def test_composes_targets_are_its_services() -> None:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "targets" / "compose.yaml").read_text())
    found = {group["labels"]["service"]: group["targets"] for group in groups}
    assert found == {name: [f"{name}:9108"] for name in Composition().learners}


def test_grafana_is_started_only_if_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_grafana() is None
    binary = tmp_path / "grafana"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(stat.S_IRWXU)
    assert find_grafana() == binary.resolve()


@pytest.mark.parametrize(("name", "first"), [("grafana", "server"), ("grafana-server", "--homepath=")])
def test_grafana_is_given_the_files_of_compose(tmp_path: Path, name: str, first: str) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "defaults.ini").touch()
    command, settings = grafana_command(tmp_path / "bin" / name, tmp_path / "data", 3001, {"A": "b"})
    assert command[1].startswith(first)
    assert command[-1] == f"--homepath={tmp_path}"
    assert settings["A"] == "b"
    assert settings["GF_SERVER_HTTP_PORT"] == "3001"
    provisioning = Path(settings["GF_PATHS_PROVISIONING"])
    assert {path.name for path in provisioning.iterdir()} == {"datasources", "dashboards"}


def test_the_stack_explains_its_options() -> None:
    command = [sys.executable, "deploy/stack.py", "--help"]
    done = subprocess.run(command, cwd=DEPLOY.parent, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "--samples" in done.stdout


def test_a_stack_without_prometheus_says_so_before_it_starts_anything(tmp_path: Path) -> None:
    command = [sys.executable, "deploy/stack.py", "--dir", str(tmp_path / "stack")]
    env = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=DEPLOY.parent, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "error: no prometheus in PATH (Debian: apt install prometheus)\n"
    assert not (tmp_path / "stack").exists()


def test_a_packaged_grafana_has_its_home_elsewhere(tmp_path: Path) -> None:
    command, _ = grafana_command(tmp_path / "grafana", tmp_path, 3001, {})
    assert command[-1] == f"--homepath={PACKAGED_HOME}"
