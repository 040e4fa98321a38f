"""The pods of a StatefulSet: what Kubernetes would start in each, and who finds it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Pod", "pods"]


@dataclass(frozen=True)
class Pod:
    """One pod with one container, to which a ConfigMap gives settings."""

    name: str
    """By which the other pods reach it, in the same namespace."""
    labels: Mapping[str, str]
    environment: Mapping[str, str]
    container: Mapping[str, Any]

    @property
    def command(self) -> Sequence[str]:
        """What runs in it: the image's entry point with the container's arguments."""
        return ["lethe", *self.container["args"]]

    def is_selected(self, labels: Mapping[str, str]) -> bool:
        """Whether a selector of these labels selects it."""
        return labels.items() <= self.labels.items()


def pods(resources: Mapping[str, Any], name: str) -> list[Pod]:
    """The pods of the StatefulSet ``name``, as its controller creates them."""
    stateful = resources[f"StatefulSet/{name}"]["spec"]
    return [_pod(resources, name, stateful, ordinal) for ordinal in range(stateful["replicas"])]


def _pod(resources: Mapping[str, Any], name: str, stateful: Mapping[str, Any], ordinal: int) -> Pod:
    labels = {
        **stateful["template"]["metadata"]["labels"],
        "apps.kubernetes.io/pod-index": str(ordinal),
        "statefulset.kubernetes.io/pod-name": f"{name}-{ordinal}",
    }
    (container,) = stateful["template"]["spec"]["containers"]
    environment: dict[str, str] = {}
    for source in container["envFrom"]:
        (settings,) = [
            resource["data"]
            for resource in resources.values()
            if resource["kind"] == "ConfigMap"
            and resource["metadata"]["name"] == source["configMapRef"]["name"]
        ]
        environment |= settings
    for entry in container.get("env", ()):
        environment[entry["name"]] = entry["value"] if "value" in entry else _field(entry, labels)
    return Pod(f"{name}-{ordinal}.{stateful['serviceName']}", labels, environment, container)


def _field(entry: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    path = entry["valueFrom"]["fieldRef"]["fieldPath"]
    label = re.fullmatch(r"metadata\.labels\['(.+)'\]", path)
    assert label is not None, f"{path} is no label"
    return labels[label[1]]
