"""Prepares the demo's folder: deletes the files of an earlier demo, and nothing else."""

from pathlib import Path
from typing import Final

from lethe.checkpointing.state_folder import StateFolder
from lethe.experiments.demo.audit import PAGE

__all__ = ["LOG", "STATE", "fresh_folder"]

LOG: Final = "service.log"
"""Log file beside the state folder of a service that a demo started."""
STATE: Final = "state"


def fresh_folder(folder: Path) -> Path:
    """Create the report folder, and delete an earlier demo's probes, results and state folders.

    Raises InvalidSetting if a service of that demo still uses its state.
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
