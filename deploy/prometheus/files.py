"""Writes Prometheus' configuration for a stack without Docker."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import yaml

__all__ = ["write_prometheus"]

HERE: Final = Path(__file__).resolve().parent


def write_prometheus(folder: Path, addresses: Mapping[str, str], interval: str | None) -> Path:
    """Copy Prometheus' configuration into ``folder`` and return the path of the main file.

    ``addresses`` maps a service to its HOST:PORT, which replaces its host name in compose.yaml.
    ``interval`` replaces the scrape and evaluation interval.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(HERE / "rules", folder / "rules")
    groups = yaml.safe_load((HERE / "targets" / "compose.yaml").read_text())
    for group in groups:
        group["targets"] = [addresses[group["labels"]["service"]]]
    (folder / "targets").mkdir()
    (folder / "targets" / "stack.yaml").write_text(yaml.safe_dump(groups))
    config = yaml.safe_load((HERE / "prometheus.yml").read_text())
    if interval is not None:
        config["global"] = dict.fromkeys(config["global"], interval)
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path
