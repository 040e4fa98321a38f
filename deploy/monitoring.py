"""Prometheus and Grafana without Docker: their commands, with the configuration files of compose.yaml."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import yaml

__all__ = ["DEPLOY", "find_grafana", "grafana_command", "write_prometheus"]

DEPLOY: Final = Path(__file__).resolve().parent
HOST: Final = "127.0.0.1"
PACKAGED_HOME: Final = Path("/usr/share/grafana")


def write_prometheus(folder: Path, addresses: Mapping[str, str], interval: str | None) -> Path:
    """Copy Prometheus' configuration into ``folder`` and return the path of the main file.

    ``addresses`` maps a service to its HOST:PORT, which replaces the name that compose gives it.
    ``interval`` replaces how often is scraped and evaluated.
    """
    source = DEPLOY / "prometheus"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source / "rules", folder / "rules")
    groups = yaml.safe_load((source / "targets" / "compose.yaml").read_text())
    for group in groups:
        group["targets"] = [addresses[group["labels"]["service"]]]
    (folder / "targets").mkdir()
    (folder / "targets" / "stack.yaml").write_text(yaml.safe_dump(groups))
    config = yaml.safe_load((source / "prometheus.yml").read_text())
    if interval is not None:
        config["global"] = dict.fromkeys(config["global"], interval)
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def find_grafana() -> Path | None:
    """Return Grafana's program, None where there is none on the PATH."""
    found = shutil.which("grafana") or shutil.which("grafana-server")
    return None if found is None else Path(found).resolve()


def grafana_command(
    program: Path, folder: Path, port: int, environment: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Return the command and the variables that start Grafana with its data in ``folder``."""
    unpacked = program.parent.parent
    home = unpacked if (unpacked / "conf" / "defaults.ini").exists() else PACKAGED_HOME
    command = [str(program), *(["server"] if program.name == "grafana" else []), f"--homepath={home}"]
    paths = {
        "GF_PATHS_DATA": str(folder),
        "GF_PATHS_LOGS": str(folder / "logs"),
        "GF_PATHS_PROVISIONING": str(DEPLOY / "grafana" / "provisioning"),
        "GF_SERVER_HTTP_ADDR": HOST,
        "GF_SERVER_HTTP_PORT": str(port),
    }
    return command, {**environment, **paths}
