"""Ranks in forked processes, connected by gloo, that do what a test says."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from lethe.errors import RankLost
from lethe.runtime.ranks.environment import variables
from lethe.runtime.ranks.group import Group, joined
from tests.support.forked import forked

__all__ = ["Act", "run"]

Act = Callable[[Group], object]
"""What a rank does; it returns JSON."""


def run(
    act: Act, folder: Path, ranks: int = 3, meeting: Mapping[str, str] | None = None
) -> tuple[list[int | None], list[object]]:
    """Let so many ranks do ``act``; return their exit statuses and what they returned.

    ``meeting`` are the variables that say where they meet, if they start apart.
    """
    processes = []
    for rank in range(ranks):
        environment = variables(rank, ranks, f"{folder}/store")
        if meeting is not None:
            environment = {"RANK": str(rank), "WORLD_SIZE": str(ranks), **meeting}
        processes.append(forked().Process(target=_be_rank, args=(act, environment, folder)))
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
    results = [folder / f"{rank}.json" for rank in range(ranks)]
    return [process.exitcode for process in processes], [
        json.loads(result.read_text()) if result.exists() else None for result in results
    ]


def _be_rank(act: Act, environment: dict[str, str], folder: Path) -> None:
    os.environ.update(environment)
    with joined() as group:
        try:
            result = act(group)
        except RankLost as error:
            (folder / f"{group.rank}.json").write_text(json.dumps("lost"))
            os._exit(error.status)
        (folder / f"{group.rank}.json").write_text(json.dumps(result))
