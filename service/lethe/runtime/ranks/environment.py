"""The environment variables by which torchrun, or `lethe run --ranks`, describes the ranks."""

import os
from typing import Final

__all__ = ["STORE", "is_launched", "is_rank", "local_world", "rank", "several_hosts", "variables", "world"]

STORE: Final = "LETHE_RANKS_STORE"
"""The file through which the ranks that `lethe run --ranks` starts find each other."""
TORCHRUN: Final = "TORCHELASTIC_RUN_ID"


def variables(rank: int, world: int, store: str) -> dict[str, str]:
    """Return the environment of one of ``world`` ranks on this machine."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        STORE: store,
    }


def is_rank() -> bool:
    """Return whether this process was started as one of several ranks, or as the only one of a group."""
    return is_launched() or TORCHRUN in os.environ


def is_launched() -> bool:
    """Return whether `lethe run --ranks` started this process."""
    return STORE in os.environ


def rank() -> int:
    """Return the number of this rank."""
    return int(os.environ["RANK"])


def world() -> int:
    """Return the number of ranks."""
    return int(os.environ["WORLD_SIZE"])


def local_world() -> int:
    """Return the number of ranks on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"])


def several_hosts() -> bool:
    """Return whether the ranks are on several machines."""
    return local_world() != world()
