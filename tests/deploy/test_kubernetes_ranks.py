"""The manifests of several ranks: a pod for each, which find each other, and of which one answers."""

import os
import shutil
import socket
import subprocess
import sysconfig
from pathlib import Path
from typing import Any, Final

import pytest

from lethe.errors import InvalidSetting
from lethe.runtime.ranks.environment import is_rank, master, rank, several_hosts, starts_apart, world
from lethe.runtime.ranks.group import APART_SECONDS
from lethe.runtime.ranks.supported import check_hosts, check_ranks
from lethe.settings import Settings
from tests.support.kubernetes_schema import misfits
from tests.support.kustomized import build
from tests.support.monitoring import DEPLOY
from tests.support.pods import Pod, pods

LONGEST_PAUSE_SECONDS: Final = 300
"""Before a kubelet starts a container again that ends over and over."""
PROBES: Final = ("startupProbe", "livenessProbe", "readinessProbe")


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return build(DEPLOY / "kubernetes")


@pytest.fixture(scope="module")
def built() -> dict[str, Any]:
    return build(DEPLOY / "kubernetes-ranks")


@pytest.fixture(scope="module")
def ranks(built: dict[str, Any]) -> list[Pod]:
    return pods(built, "lethe")


def in_pod(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in pod.environment.items():
        monkeypatch.setenv(name, value)


def test_every_resource_is_valid_and_two_are_added(built: dict[str, Any], alone: dict[str, Any]) -> None:
    assert built.keys() - alone.keys() == {"Service/lethe-ranks", "NetworkPolicy/lethe-ranks"}
    assert alone.keys() <= built.keys()
    assert [misfits(resource) for resource in built.values()] == [[]] * len(built)
    assert {resource["metadata"].get("namespace", "lethe") for resource in built.values()} == {"lethe"}


def test_a_container_is_that_of_one_service_but_for_its_rank_and_probes(
    built: dict[str, Any], alone: dict[str, Any]
) -> None:
    def rest(resources: dict[str, Any]) -> dict[str, Any]:
        pod: dict[str, Any] = resources["StatefulSet/lethe"]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        differs = {"env", "envFrom", *PROBES}
        return pod | {"containers": [{name: container[name] for name in container.keys() - differs}]}

    assert rest(built) == rest(alone)


def test_each_pod_is_a_rank_and_finds_the_first(
    ranks: list[Pod], built: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(ranks) == 2
    for ordinal, pod in enumerate(ranks):
        in_pod(pod, monkeypatch)
        assert is_rank()
        assert several_hosts()
        assert starts_apart()
        assert (rank(), world()) == (ordinal, len(ranks))
        host, port = master()
        assert host == ranks[0].name
    service = built["Service/lethe-ranks"]["spec"]
    assert host.endswith(".lethe-ranks"), "the service gives the name"
    assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
    assert [entry["port"] for entry in service["ports"]] == [port]
    assert all(pod.is_selected(service["selector"]) for pod in ranks)


def test_all_pods_are_created_at_once(built: dict[str, Any]) -> None:
    policy = built["StatefulSet/lethe"]["spec"]["podManagementPolicy"]
    assert policy == "Parallel", "pod 0 is ready only when the others are there"


def test_a_rank_waits_for_longer_than_a_kubelet(ranks: list[Pod]) -> None:
    assert APART_SECONDS > LONGEST_PAUSE_SECONDS
    startup = ranks[0].container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > APART_SECONDS


def test_the_number_of_replicas_is_that_of_the_ranks(tmp_path: Path) -> None:
    for folder in ("kubernetes", "kubernetes-ranks", "grafana/dashboards"):
        shutil.copytree(DEPLOY / folder, tmp_path / folder)
    file = tmp_path / "kubernetes-ranks" / "kustomization.yaml"
    text = file.read_text()
    assert text.count("count: 2}") == 1
    file.write_text(text.replace("count: 2}", "count: 3}"))
    found = pods(build(tmp_path / "kubernetes-ranks"), "lethe")
    assert [pod.environment["RANK"] for pod in found] == ["0", "1", "2"]
    assert {pod.environment["WORLD_SIZE"] for pod in found} == {"3"}


def test_only_the_first_pod_is_scraped(ranks: list[Pod], built: dict[str, Any]) -> None:
    (endpoint,) = built["ServiceMonitor/lethe"]["spec"]["endpoints"]
    wanted = built["ServiceMonitor/lethe"]["spec"]["selector"]["matchLabels"]
    services = [resource for name, resource in built.items() if name.startswith("Service/")]
    (scraped,) = [it for it in services if wanted.items() <= it["metadata"]["labels"].items()]
    assert endpoint["port"] in {port["name"] for port in scraped["spec"]["ports"]}
    assert [pod.is_selected(scraped["spec"]["selector"]) for pod in ranks] == [True, False]


def test_ranks_reach_each_other_and_nobody_else_reaches_them(ranks: list[Pod], built: dict[str, Any]) -> None:
    policy = built["NetworkPolicy/lethe-ranks"]["spec"]
    assert sorted(policy["policyTypes"]) == ["Egress", "Ingress"]
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        (rule,) = policy[direction]
        (peer,) = rule[peers]
        assert peer.keys() == {"podSelector"}, "of the same namespace"
        assert all(pod.is_selected(peer["podSelector"]["matchLabels"]) for pod in ranks)
        assert rule["ports"] == [{"protocol": "TCP"}], "gloo listens at ports that nobody knows before"
    assert all(pod.is_selected(policy["podSelector"]["matchLabels"]) for pod in ranks)


def test_ranks_can_learn_what_the_settings_say(ranks: list[Pod], monkeypatch: pytest.MonkeyPatch) -> None:
    in_pod(ranks[1], monkeypatch)
    settings = Settings.read({})
    check_ranks(settings)
    assert settings.run.ranks is None


def test_a_policy_needs_a_cluster_that_is_declared_trusted(
    ranks: list[Pod], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_pod(ranks[0], monkeypatch)
    monkeypatch.setenv("LETHE_PRIVACY__POLICY", "clinic")
    check_ranks(Settings.read({}))
    with pytest.raises(InvalidSetting, match=r"run\.cluster_trusted"):
        check_hosts(Settings.read({}))
    monkeypatch.setenv("LETHE_RUN__CLUSTER_TRUSTED", "true")
    check_hosts(Settings.read({}))


@pytest.mark.parametrize("probe", PROBES)
def test_only_the_first_rank_is_asked_whether_it_is_well(ranks: list[Pod], probe: str) -> None:
    (port,) = ranks[0].container["ports"]
    path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    command = ranks[0].container[probe]["exec"]["command"]
    served = f"http://127.0.0.1:{port['containerPort']}/"
    assert served in command[-1]
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and does not listen
        asked = [*command[:-1], command[-1].replace(served, f"http://127.0.0.1:{silent.getsockname()[1]}/")]
        well = [
            subprocess.run(asked, env={**pod.environment, "PATH": path}, capture_output=True).returncode == 0
            for pod in ranks
        ]
    assert well == [False, True]
