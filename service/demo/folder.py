"""The demo's own folder: what an earlier demo left there goes, anything else is not touched."""

from pathlib import Path
from typing import Final

from service.demo.judging import PAGE
from service.state_folder import StateFolder

__all__ = ["LOG", "STATE", "fresh_folder"]

LOG: Final = "service.log"
"""Beside the state of a service that a demo started, and of no other."""
STATE: Final = "state"


def fresh_folder(folder: Path) -> Path:
    """Make the report's folder, without an earlier demo's probes, results, and services' states.

    Raises InvalidSetting while a service of that demo still uses its state.
    """
    for log in folder.glob(f"*/{LOG}"):
        state = log.parent / STATE
        if state.is_dir():
            with StateFolder(state, keep=1) as earlier:
                earlier.clear()
    for old in [
        *folder.glob("probes/*.safetensors"),
        *folder.glob("*/run.json"),
        *folder.glob(f"*/{PAGE}"),
        *folder.glob("report.html"),
    ]:
        old.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    return folder
