"""``python -m tests.benchmarks.peers``: runs strategies of CapyMOA and Avalanche on a scenario."""

import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lethe.experiments.bench.offline_run import OfflineRun
from lethe.experiments.bench.scoreboard_table import WIDTH, scoreboard_table
from lethe.experiments.bench.scores import Score, summarise
from lethe_producers.dataset_downloads import fetch
from lethe_producers.datasets import default_root
from lethe_producers.scenario import load_scenario
from tests.benchmarks.command import run
from tests.benchmarks.peers.measuring import measure, peers, write

__all__ = ["main"]


def main(
    *,
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            help="Built-in scenario, or path of a scenario file (./NAME); repeatable.",
            show_default="mnist-to-fashion",
        ),
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="capymoa-si, …; repeatable.", show_default="all")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Repeatable.", show_default="0, 1, 2")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Limit of samples per segment.")] = None,
    out: Annotated[Path, typer.Option(help="File of the scores, updated after each run.")] = Path(
        "peers.json"
    ),
) -> None:
    """Run strategies of CapyMOA and Avalanche, which are given the true boundaries, on a scenario.

    lethe bench learners --with FILE shows the scores beside those of Lethe's learners.
    """
    warnings.simplefilter("ignore")  # deprecations within the libraries
    kinds = peers(method or ())
    scores: list[Score] = []
    for stream in map(load_scenario, scenario or ["mnist-to-fashion"]):
        for dataset in stream.datasets:
            fetch(dataset, default_root())
        for number in seed or [0, 1, 2]:
            for kind in kinds:
                scores.append(measure(kind, OfflineRun(kind.name, stream, number, samples)))
                write(scores, out)
                print(
                    f"{kind.name} on {stream.name}, seed {number}: ACC {scores[-1].acc:.4f}", file=sys.stderr
                )
    Console(width=None if sys.stdout.isatty() else WIDTH).print(scoreboard_table(summarise(scores)))


if __name__ == "__main__":
    run(main, "peers")
