"""The command line of a local Grafana with the provisioning of compose.yaml."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["PACKAGED_HOME", "find_grafana", "grafana_command"]

HERE: Final = Path(__file__).resolve().parent
HOST: Final = "127.0.0.1"
PACKAGED_HOME: Final = Path("/usr/share/grafana")


def find_grafana() -> Path | None:
    """Return the path of Grafana's executable, or None if it is not in PATH."""
    found = shutil.which("grafana") or shutil.which("grafana-server")
    return None if found is None else Path(found).resolve()


def grafana_command(
    program: Path, folder: Path, port: int, environment: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Return the command and environment variables that run Grafana with its data in ``folder``."""
    unpacked = program.parent.parent
    home = unpacked if (unpacked / "conf" / "defaults.ini").exists() else PACKAGED_HOME
    command = [str(program), *(["server"] if program.name == "grafana" else []), f"--homepath={home}"]
    paths = {
        "GF_PATHS_DATA": str(folder),
        "GF_PATHS_LOGS": str(folder / "logs"),
        "GF_PATHS_PROVISIONING": str(HERE / "provisioning"),
        "GF_SERVER_HTTP_ADDR": HOST,
        "GF_SERVER_HTTP_PORT": str(port),
    }
    return command, {**environment, **paths}
