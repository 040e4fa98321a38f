"""The manifests: valid, restricted, complete, and made of the same rules and dashboards as the rest."""

import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.kubernetes.generate import FILE, text
from service.settings import OUTSIDE, Settings, variable
from tests.watching import DEPLOY, dashboards, rules

FOLDER = DEPLOY / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
MANIFESTS = [FOLDER / name for name in KUSTOMIZATION["resources"] if name.endswith(".yaml")]
OPERATOR = "monitoring.coreos.com/v1"
"""Kinds of the Prometheus operator, whose schemas Kubernetes lacks; what is in them is compared below."""
SETTINGS = dict(entry.split("=", 1) for entry in KUSTOMIZATION["configMapGenerator"][0]["literals"])


def manifest(name: str) -> Any:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())


POD = manifest("statefulset")["spec"]["template"]["spec"]
CONTAINERS = [*POD["initContainers"], *POD["containers"]]


@pytest.mark.parametrize(
    "file",
    [file for file in MANIFESTS if yaml.safe_load(file.read_text())["apiVersion"] != OPERATOR],
    ids=lambda file: file.stem,
)
def test_a_manifest_is_valid(file: Path) -> None:
    command = [Path(sysconfig.get_path("scripts")) / "kubernetes-validate", "--strict", file]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_manifest_is_deployed() -> None:
    there = {file for file in FOLDER.glob("*.yaml") if file.name != "kustomization.yaml"}
    assert there == set(MANIFESTS)


def test_the_operator_s_rules_are_those_of_prometheus() -> None:
    assert FILE.read_text() == text(), "make dashboards"
    resource = manifest("rules")
    assert (resource["apiVersion"], resource["kind"]) == (OPERATOR, "PrometheusRule")
    deployed = [rule for group in resource["spec"]["groups"] for rule in group["rules"]]
    assert deployed == list(rules())


def test_the_operator_is_told_the_labels_that_rules_ask_for() -> None:
    monitor, service = manifest("service-monitor"), manifest("service")
    assert (monitor["apiVersion"], monitor["kind"]) == (OPERATOR, "ServiceMonitor")
    (endpoint,) = monitor["spec"]["endpoints"]
    assert {relabel["targetLabel"] for relabel in endpoint["relabelings"]} == {"job", "service"}
    assert monitor["spec"]["selector"]["matchLabels"] == service["metadata"]["labels"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}


def test_what_is_selected_is_the_pod() -> None:
    stateful = manifest("statefulset")
    labels = stateful["spec"]["template"]["metadata"]["labels"]
    assert stateful["spec"]["selector"]["matchLabels"] == labels
    assert manifest("service")["spec"]["selector"] == labels
    for policy in ("network-policy", "network-policy-first-start"):
        assert manifest(policy)["spec"]["podSelector"]["matchLabels"] == labels


def test_all_dashboards_are_in_the_config_map() -> None:
    folder = DEPLOY / "grafana" / "dashboards"
    assert "../grafana/dashboards" in KUSTOMIZATION["resources"]
    (generator,) = yaml.safe_load((folder / "kustomization.yaml").read_text())["configMapGenerator"]
    assert sorted(generator["files"]) == sorted(f"{board['uid']}.json" for board in dashboards())


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda container: container["name"])
def test_a_container_meets_the_restricted_profile(container: dict[str, Any]) -> None:
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert POD["securityContext"]["runAsNonRoot"]
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not POD["automountServiceAccountToken"]
    assert "memory" in container["resources"]["limits"]
    enforced = manifest("namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert enforced == "restricted"


def test_it_is_restarted_when_stuck_and_given_no_traffic_without_a_broker() -> None:
    (container,) = POD["containers"]
    probes = {
        kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")
    }
    assert probes == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}


def test_its_state_outlives_it() -> None:
    (claim,) = manifest("statefulset")["spec"]["volumeClaimTemplates"]
    mounts = {mount["name"]: mount["mountPath"] for mount in POD["containers"][0]["volumeMounts"]}
    assert SETTINGS["LETHE_CHECKPOINT__FOLDER"].startswith(f"{mounts[claim['metadata']['name']]}/")


def test_its_settings_exist_and_kubernetes_adds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(SETTINGS) <= {variable(section, name) for section, name in Settings.leaves()} | set(OUTSIDE)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    Settings.read({})
    assert POD["enableServiceLinks"] is False, (
        "LETHE_PORT and its like are no settings: the service would refuse"
    )


def test_only_prometheus_comes_in() -> None:
    (rule,) = manifest("network-policy")["spec"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": "http"}]
    assert all("podSelector" in source and "namespaceSelector" in source for source in rule["from"])


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl in PATH")
def test_kustomize_puts_everything_together() -> None:
    done = subprocess.run(["kubectl", "kustomize", FOLDER], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    built = list(yaml.safe_load_all(done.stdout))
    assert sorted(resource["kind"] for resource in built) == [
        "ConfigMap",
        "ConfigMap",
        "Namespace",
        "NetworkPolicy",
        "NetworkPolicy",
        "PrometheusRule",
        "Service",
        "ServiceMonitor",
        "StatefulSet",
    ]
    stateful = next(resource for resource in built if resource["kind"] == "StatefulSet")
    names = {resource["metadata"]["name"] for resource in built if resource["kind"] == "ConfigMap"}
    (source,) = stateful["spec"]["template"]["spec"]["containers"][0]["envFrom"]
    assert source["configMapRef"]["name"] in names
