"""``python -m tests.benchmarks.peers``: measure CapyMOA's and Avalanche's strategies on a scenario."""

import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from producers.datasets import default_root
from producers.scenario import load_scenario
from producers.sources import fetch
from service.bench.rehearsal import Rehearsal
from service.bench.scoreboard_table import WIDTH, scoreboard_table
from service.bench.scores import Score, summarise
from service.errors import LetheError
from tests.benchmarks.peers.measuring import measure, peers, write

__all__ = ["main"]


def main(
    *,
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            help="A shipped scenario's name, or a YAML file; repeatable.", show_default="mnist-to-fashion"
        ),
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="capymoa-si, …; repeatable.", show_default="all")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Repeatable.", show_default="0, 1, 2")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="At most so many of each segment.")] = None,
    out: Annotated[Path, typer.Option(help="Where the scores go, as they come.")] = Path("peers.json"),
) -> None:
    """Measure the strategies of CapyMOA and Avalanche, which are told the boundaries, on a scenario.

    The scores are for lethe bench learners --with FILE, which shows them beside Lethe's learners.
    """
    warnings.simplefilter("ignore")  # the libraries warn of their own deprecations
    kinds = peers(method or ())
    scores: list[Score] = []
    for stream in map(load_scenario, scenario or ["mnist-to-fashion"]):
        for dataset in {segment.dataset for segment in stream.segments}:
            fetch(dataset, default_root())
        for number in seed or [0, 1, 2]:
            for kind in kinds:
                scores.append(measure(kind, Rehearsal(kind.name, stream, number, samples)))
                write(scores, out)
                print(
                    f"{kind.name} on {stream.name}, seed {number}: ACC {scores[-1].acc:.4f}", file=sys.stderr
                )
    Console(width=None if sys.stdout.isatty() else WIDTH).print(scoreboard_table(summarise(scores)))


if __name__ == "__main__":
    try:
        typer.run(main)
    except LetheError as error:
        print(f"peers: {error}", file=sys.stderr)
        sys.exit(2)
