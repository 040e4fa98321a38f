"""The manifests: valid, restricted, complete, with the same rules and dashboards as the other deployments."""

import copy
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from torchvision.datasets import MNIST, FashionMNIST

from deploy.kubernetes.generate import FILE, text
from lethe.settings import OTHER_VARIABLES, Settings, variable
from tests.support.kubernetes_schema import OPERATOR, misfits
from tests.support.kustomized import build
from tests.support.monitoring import DEPLOY, dashboards, rules

FOLDER = DEPLOY / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
MANIFESTS = [FOLDER / name for name in KUSTOMIZATION["resources"] if name.endswith(".yaml")]
SETTINGS = dict(entry.split("=", 1) for entry in KUSTOMIZATION["configMapGenerator"][0]["literals"])
DEPLOYED = [
    "ConfigMap/lethe-dashboards",
    "ConfigMap/lethe-settings",
    "Namespace/lethe",
    "NetworkPolicy/lethe",
    "PrometheusRule/lethe",
    "Service/lethe",
    "ServiceMonitor/lethe",
    "StatefulSet/lethe",
]


def manifest(name: str) -> Any:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())


POD = manifest("statefulset")["spec"]["template"]["spec"]
CONTAINERS = [*POD["initContainers"], *POD["containers"]]


@pytest.fixture(scope="module")
def built() -> dict[str, Any]:
    return build(FOLDER)


def test_kustomize_puts_everything_together(built: dict[str, Any]) -> None:
    assert sorted(built) == DEPLOYED
    assert {resource["metadata"].get("namespace", "lethe") for resource in built.values()} == {"lethe"}
    pod = built["StatefulSet/lethe"]["spec"]["template"]["spec"]
    (source,) = pod["containers"][0]["envFrom"]
    assert source["configMapRef"]["name"] == built["ConfigMap/lethe-settings"]["metadata"]["name"]


@pytest.mark.parametrize("name", DEPLOYED)
def test_the_manifests_are_valid(built: dict[str, Any], name: str) -> None:
    assert misfits(built[name]) == []


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("Service/lethe", "spec.ports.0.port", "9108"),
        ("StatefulSet/lethe", "spec.template.spec.containers.0.livenessProb", {}),
        ("NetworkPolicy/lethe", "spec.ingress.0.ports.0.protocols", "TCP"),
        ("ServiceMonitor/lethe", "spec.endpoints.0.scrapeTimout", "5s"),
        ("ServiceMonitor/lethe", "spec.endpoints.0.scrape_timeout", "5s"),
        ("ServiceMonitor/lethe", "spec.endpoints.0.interval", "5 s"),
        ("ServiceMonitor/lethe", "spec.endpoints.0.relabelings.0.action", "put"),
        ("PrometheusRule/lethe", "spec.groups.0.rules.0.four", "5m"),
        ("PrometheusRule/lethe", "spec.groups.0.rules.0.for", "five minutes"),
        ("PrometheusRule/lethe", "spec.groups.0.rules.0.labels.severity", 1),
    ],
)
def test_a_wrong_field_is_found(built: dict[str, Any], name: str, place: str, value: Any) -> None:
    resource = copy.deepcopy(built[name])
    *path, last = place.split(".")
    part = resource
    for step in path:
        part = part[int(step) if step.isdigit() else step]
    part[last] = value
    (misfit,) = misfits(resource)
    assert last in misfit


def test_every_manifest_is_deployed() -> None:
    there = {file for file in FOLDER.glob("*.yaml") if file.name != "kustomization.yaml"}
    assert there == {*MANIFESTS, FOLDER / "network-policy-first-start.yaml"}, "it is opened by hand"


def test_the_operators_rules_are_those_of_prometheus() -> None:
    assert FILE.read_text() == text(), "make dashboards"
    resource = manifest("rules")
    assert (resource["apiVersion"], resource["kind"]) == (OPERATOR, "PrometheusRule")
    deployed = [rule for group in resource["spec"]["groups"] for rule in group["rules"]]
    assert deployed == list(rules())


def test_the_operator_sets_the_labels_that_rules_use() -> None:
    monitor, service = manifest("service-monitor"), manifest("service")
    assert (monitor["apiVersion"], monitor["kind"]) == (OPERATOR, "ServiceMonitor")
    (endpoint,) = monitor["spec"]["endpoints"]
    assert {relabel["targetLabel"] for relabel in endpoint["relabelings"]} == {"job", "service"}
    assert monitor["spec"]["selector"]["matchLabels"] == service["metadata"]["labels"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}


def test_a_prometheus_that_selects_by_release_finds_the_monitor_and_the_rules(built: dict[str, Any]) -> None:
    (labels,) = KUSTOMIZATION["labels"]
    for name in ("ServiceMonitor/lethe", "PrometheusRule/lethe"):
        assert built[name]["metadata"]["labels"].items() >= labels["pairs"].items()
    assert labels.keys() == {"pairs"}, "selectors stay as they are"
    assert set(labels["pairs"]) == {"release"}


def test_every_selector_selects_the_pod() -> None:
    stateful = manifest("statefulset")
    labels = stateful["spec"]["template"]["metadata"]["labels"]
    assert stateful["spec"]["selector"]["matchLabels"] == labels
    assert manifest("service")["spec"]["selector"] == labels
    assert stateful["spec"]["serviceName"] == manifest("service")["metadata"]["name"]
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
    assert not {"hostNetwork", "hostPID", "hostIPC"} & POD.keys()
    assert {"memory", "ephemeral-storage"} <= container["resources"]["limits"].keys()
    enforced = manifest("namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert enforced == "restricted"


def test_it_is_restarted_when_stuck_and_given_no_traffic_without_a_broker() -> None:
    (container,) = POD["containers"]
    probes = {
        kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")
    }
    assert probes == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
    assert {container[f"{kind}Probe"]["httpGet"]["port"] for kind in probes} == {"http"}


def test_the_port_is_the_one_that_it_serves_at() -> None:
    (container,) = POD["containers"]
    served = SETTINGS.get("LETHE_SERVE__PORT", Settings.read({}).serve.port)
    assert container["ports"] == [{"name": "http", "containerPort": served}]
    (port,) = manifest("service")["spec"]["ports"]
    assert (port["targetPort"], port["port"]) == ("http", served)


def test_the_image_has_the_projects_version() -> None:
    (image,) = KUSTOMIZATION["images"]
    assert {container["image"] for container in CONTAINERS} == {image["name"]}
    assert image["newTag"] == version("lethe")


def test_its_state_outlives_it() -> None:
    (claim,) = manifest("statefulset")["spec"]["volumeClaimTemplates"]
    mounts = {mount["name"]: mount["mountPath"] for mount in POD["containers"][0]["volumeMounts"]}
    state = mounts[claim["metadata"]["name"]]
    assert SETTINGS["LETHE_CHECKPOINT__FOLDER"].startswith(f"{state}/")
    assert SETTINGS["LETHE_EVALUATION__PROBES"].startswith(f"{state}/")
    assert SETTINGS["LETHE_EVALUATION__PROBES"] in POD["initContainers"][0]["command"][-1]


def test_its_settings_exist_and_kubernetes_adds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(SETTINGS) <= {variable(section, name) for section, name in Settings.fields()} | set(
        OTHER_VARIABLES
    )
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


def test_only_dns_and_kafka_are_reachable_from_the_pod() -> None:
    names, kafka = manifest("network-policy")["spec"]["egress"]
    assert {port["port"] for port in names["ports"]} == {53}
    host, _, port = SETTINGS["LETHE_STREAM__BOOTSTRAP_SERVERS"].partition(":")
    assert kafka["ports"] == [{"protocol": "TCP", "port": int(port)}]
    (there,) = kafka["to"]
    namespace = host.split(".")[1]
    assert there["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": namespace}


def test_the_first_start_reaches_the_data_sets() -> None:
    mirrors = [url for dataset in (MNIST, FashionMNIST) for url in dataset.mirrors]
    ports = {{"http": 80, "https": 443}[urlsplit(url).scheme] for url in mirrors}
    policy = manifest("network-policy-first-start")["spec"]
    assert policy["policyTypes"] == ["Egress"]
    (rule,) = policy["egress"]
    assert {port["port"] for port in rule["ports"]} == ports
