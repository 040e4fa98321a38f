"""Scores of peers, measured as by `lethe bench learners`, with the true boundaries given."""

import json
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from lethe.errors import InvalidSetting
from lethe.experiments.bench.offline_run import OfflineRun, run_learner_offline
from lethe.experiments.bench.scores import Score
from tests.benchmarks.peers.peer import Peer

__all__ = ["measure", "peers", "write"]

PACKAGES: Final = ("capymoa", "avalanche")


def peers(names: Sequence[str] = ()) -> list[type[Peer]]:
    """Return the peers with these names, or all.

    Raises InvalidSetting if a package is not installed or a name is unknown.
    """
    for package in PACKAGES:
        if find_spec(package) is None:
            raise InvalidSetting(
                f"{package} is not installed: run `make peers`, then this with .venv-peers/bin/python"
            )
    from tests.benchmarks.peers.by_avalanche import AVALANCHE
    from tests.benchmarks.peers.by_capymoa import CAPYMOA

    known = {kind.name: kind for kind in (*CAPYMOA, *AVALANCHE)}
    if unknown := [name for name in names if name not in known]:
        raise InvalidSetting(f"method: {', '.join(unknown)} is not one of {', '.join(known)}")
    return [known[name] for name in names or known]


def measure(kind: type[Peer], offline: OfflineRun) -> Score:
    """Return a peer's score; raises DataUnavailable if a data set is not on this machine."""
    given = replace(offline, learner=kind.name, oracle=True)
    score = Score.of(given, kind.name, run_learner_offline(kind.ready_for(given), given), None)
    return score.model_copy(update={"retains": kind.keeps})


def write(scores: Sequence[Score], path: Path) -> None:
    """Write the scores atomically, in the format of ``lethe bench learners --with``."""
    partial = path.with_name(f"{path.name}.partial")
    document = {"scores": [score.model_dump() for score in scores]}
    partial.write_text(json.dumps(document, indent=1), encoding="utf-8")
    partial.replace(path)
