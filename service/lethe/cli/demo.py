"""The command ``lethe demo``: learners side by side on one stream."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from typer import Option

from lethe.cli.options import AsJson, Broker, Learners, write_json

__all__ = ["demo"]


def demo(
    *,
    scenario: Annotated[
        str, Option(help="A built-in scenario's name, or a YAML file: ./NAME.yaml.")
    ] = "mnist-to-fashion",
    learner: Learners = None,
    broker: Broker = None,
    samples: Annotated[
        int | None, Option(metavar="N", min=1, help="Maximum records of each segment.")
    ] = None,
    seed: Annotated[
        int, Option(metavar="N", min=0, help="Seed of the stream's order and of the learners.")
    ] = 0,
    rate: Annotated[
        float | None, Option(metavar="N", min=0.01, help="Records per second. Default: as fast as possible.")
    ] = None,
    report: Annotated[Path, Option(help="Folder for report, results and logs.")] = Path("lethe-demo"),
    policy: Annotated[
        str | None, Option(help="Policy to enforce: lab, clinic, vault, or a file: ./NAME.yaml.")
    ] = None,
    ranks: Annotated[
        int | None, Option(metavar="N", min=1, help="Processes in which each service learns one model.")
    ] = None,
    keep_serving: Annotated[bool, Option("--keep-serving", help="Keep serving after the end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stream a scenario to several services side by side, and report what each of them forgets."""
    from lethe.experiments.demo.run import Demo, document, run_demo

    chosen = Demo(scenario, learner or (), broker, samples, seed, rate, report, keep_serving, policy, ranks)
    shown = run_demo(chosen, Console(stderr=as_json))
    if as_json:
        write_json(document(chosen, shown), indent=1)
    if not shown.passed:
        raise typer.Exit(1)
