"""The command ``lethe bench restart``."""

from statistics import median
from typing import Annotated

import typer
from typer import Option

from lethe.cli.bench.output import show
from lethe.cli.options import AsJson, Broker, Learner

__all__ = ["restart"]


def restart(
    *,
    learner: Learner = "ridge",
    broker: Broker = None,
    turns: Annotated[int, Option(metavar="N", min=1, help="Number of restarts.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Measure the time from a restart after SIGKILL to the first training step."""
    from lethe.experiments.bench.restart import RestartBench, Restarts, bench_restart

    found = Restarts()
    for found in bench_restart(RestartBench(learner, broker, turns)):
        typer.echo(f"{found.imports[-1]:.2f} s of imports, {found.rest[-1]:.2f} s of the rest", err=True)
    numbers = {
        "learner": learner,
        "bytes": found.size,
        "restarts": turns,
        "seconds": median(found.seconds),
        "imports": median(found.imports),
        "rest": median(found.rest),
        "slowest_rest": max(found.rest),
    }
    show(numbers, as_json)
