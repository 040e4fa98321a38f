"""The score of a peer: measured as `lethe bench learners` measures, with the boundaries told."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from service.bench.rehearsal import Rehearsal, rehearse_with
from service.bench.scores import Score
from service.errors import InvalidSetting
from tests.benchmarks.peers.peer import Peer

__all__ = ["measure", "peers", "write"]

PACKAGES: Final = ("capymoa", "avalanche")


def peers(names: Sequence[str] = ()) -> list[type[Peer]]:
    """Return the peers of these names, or all.

    Raises InvalidSetting when a package is not installed, or a name is unknown.
    """
    for package in PACKAGES:
        if find_spec(package) is None:
            raise InvalidSetting(
                f"{package} is not installed: make peers creates .venv-peers, whose Python runs this"
            )
    from tests.benchmarks.peers.by_avalanche import AVALANCHE
    from tests.benchmarks.peers.by_capymoa import CAPYMOA

    there = {kind.name: kind for kind in (*CAPYMOA, *AVALANCHE)}
    if unknown := [name for name in names if name not in there]:
        raise InvalidSetting(f"method: {', '.join(unknown)} is none of {', '.join(there)}")
    return [there[name] for name in names or there]


def measure(kind: type[Peer], rehearsal: Rehearsal) -> Score:
    """Return what a peer reaches; raises DataUnavailable when a data set is not on this machine."""
    told = replace(rehearsal, learner=kind.name, oracle=True)
    return replace(
        Score.of(told, kind.name, rehearse_with(kind.ready_for(told), told), None), retains=kind.keeps
    )


def write(scores: Sequence[Score], path: Path) -> None:
    """Write what ``lethe bench learners --with`` reads, atomically: each score may have taken minutes."""
    partial = path.with_name(f"{path.name}.partial")
    document = {"scores": [asdict(score) for score in scores]}
    partial.write_text(json.dumps(document, indent=1), encoding="utf-8")
    partial.replace(path)
