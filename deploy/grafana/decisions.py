"""Reads the limits that rules and dashboards share from Prometheus' rules."""

from pathlib import Path
from typing import Final

import yaml

__all__ = ["decision"]

RULES: Final = Path(__file__).resolve().parents[1] / "prometheus" / "rules" / "decisions.yaml"


def decision(name: str) -> float:
    """Return the value of the recording rule ``lethe:decision:NAME``; raises KeyError if there is none."""
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    recorded = {rule["record"]: rule["expr"] for rule in group["rules"]}
    return float(recorded[f"lethe:decision:{name}"].removeprefix("vector(").removesuffix(")"))
