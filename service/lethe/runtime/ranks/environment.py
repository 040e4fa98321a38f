"""The environment variables that describe the ranks.

torchrun sets them, or `lethe run --ranks`, or Kubernetes, which starts each rank by itself.
"""

import os
from typing import Final

__all__ = [
    "STORE",
    "is_launched",
    "is_rank",
    "local_world",
    "master",
    "rank",
    "several_hosts",
    "starts_apart",
    "variables",
    "world",
]

STORE: Final = "LETHE_RANKS_STORE"
"""The file through which the ranks that `lethe run --ranks` starts find each other."""
TORCHRUN: Final = "TORCHELASTIC_RUN_ID"
MEETING: Final = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torch.distributed needs to know."""


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
    return is_launched() or all(name in os.environ for name in MEETING)


def is_launched() -> bool:
    """Return whether `lethe run --ranks` started this process."""
    return STORE in os.environ


def starts_apart() -> bool:
    """Return whether nothing starts the ranks together: they may come minutes apart."""
    return is_rank() and not is_launched() and TORCHRUN not in os.environ


def master() -> tuple[str, int]:
    """Return the host and the port at which ranks meet that start apart."""
    return os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])


def rank() -> int:
    """Return the number of this rank."""
    return int(os.environ["RANK"])


def world() -> int:
    """Return the number of ranks."""
    return int(os.environ["WORLD_SIZE"])


def local_world() -> int:
    """Return the number of ranks on this machine; 1 unless that is given."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def several_hosts() -> bool:
    """Return whether the ranks are on several machines."""
    return local_world() != world()
