"""What ``kubectl apply -k`` would send to a cluster."""

import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any, Final

import yaml

__all__ = ["build"]

KUBECTL: Final = Path(sysconfig.get_path("scripts")) / "kubectl"


def build(folder: Path) -> dict[str, Any]:
    """The resources of a kustomization, by kind and name."""
    command = [str(KUBECTL), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    resources = list(yaml.safe_load_all(done.stdout))
    named = {_name(resource): resource for resource in resources}
    assert len(named) == len(resources)
    return named


def _name(resource: dict[str, Any]) -> str:
    """Kind and name, without the hash that kustomize adds to the settings' name."""
    return f"{resource['kind']}/{re.sub('-[bcdfghkmt24-9]{10}$', '', resource['metadata']['name'])}"
