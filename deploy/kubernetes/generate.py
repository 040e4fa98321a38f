"""Writes rules.yaml, the rules of deploy/prometheus for the Prometheus operator: ``make dashboards``."""

from pathlib import Path
from typing import Any, Final

import yaml

__all__ = ["FILE", "main", "text"]

HERE: Final = Path(__file__).resolve().parent
FILE: Final = HERE / "rules.yaml"
RULES: Final = HERE.parent / "prometheus" / "rules"
HEAD: Final = "# Written by generate.py from deploy/prometheus/rules: change it there.\n"


def text() -> str:
    """Return what belongs into `FILE`."""
    groups: list[Any] = []
    for file in sorted(RULES.glob("*.yaml")):
        groups += yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "lethe", "labels": {"app.kubernetes.io/name": "lethe"}},
        "spec": {"groups": groups},
    }
    return HEAD + yaml.safe_dump(resource, sort_keys=False, width=110)


def main() -> None:
    """Write it."""
    FILE.write_text(text(), encoding="utf-8")
    print(FILE)


if __name__ == "__main__":
    main()
