"""The command ``lethe bench restart``."""

from statistics import median
from typing import Annotated

import typer
from typer import Option

from service.bench.output import show

__all__ = ["restart"]


def restart(
    *,
    learner: Annotated[str, Option(help="lethe learners lists them.")] = "ridge",
    broker: Annotated[
        str | None, Option(metavar="HOST:PORT", help="A Kafka cluster; without it, a broker in this process.")
    ] = None,
    turns: Annotated[int, Option(min=1, help="How often the service is killed and started again.")] = 5,
    as_json: Annotated[bool, Option("--json", help="Print one JSON document, and nothing else.")] = False,
) -> None:
    """Measure how long a killed service takes until it learns again."""
    from service.bench.restart import RestartBench, Restarts, bench_restart

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
