"""The command ``lethe bench canary``."""

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from typer import Option

from lethe.cli.options import AsJson, Broker, Learner, write_json

__all__ = ["canary"]


def canary(
    *,
    broker: Broker = None,
    broker_files: Annotated[
        Path | None, Option(metavar="DIR", help="The cluster's data folder, to be searched as well.")
    ] = None,
    policy: Annotated[str, Option(help="Policy: lab, clinic, vault, or a file: ./NAME.yaml.")] = "clinic",
    learner: Learner = "finetune",
    features: Annotated[
        int | None, Option(metavar="F", min=16, help="Plant a vector of so many numbers instead of an image.")
    ] = None,
    quiet: Annotated[
        float, Option(metavar="N", min=0, help="Seconds to wait after the canary is learned.")
    ] = 10.0,
    patience: Annotated[
        float, Option(metavar="N", min=1, help="Seconds until the canary counts as retained.")
    ] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Put a canary into a stream, and search memory, files and the broker for its bytes."""
    from lethe.experiments.bench.canary import Canary, run_canary

    console = Console(stderr=True)
    with TemporaryDirectory(prefix="lethe-canary-") as folder, console.status("starting") as status:
        planted = Canary(
            Path(folder),
            broker,
            broker_files,
            quiet,
            patience,
            policy=policy,
            learner=learner,
            features=features,
        )
        found = run_canary(planted, status.update)
    if as_json:
        write_json(asdict(found) | {"passed": found.passed}, indent=1)
    else:
        table = Table("where", "found")
        for process, last in found.memory.items():
            until = f"not after {found.first_look:.1f} s" if last is None else f"until {last:.1f} s after"
            table.add_row(f"memory of the {process}, once learned", until)
        if found.forms:
            table.add_row("as", "; ".join(found.forms))
        table.add_row("checkpoints, ledger, log, report", ", ".join(found.files) or "in none")
        table.add_row("dead letters", str(found.dead_letters))
        table.add_row("records that the broker serves", str(found.served))
        if broker_files is not None:
            still = f"until {found.on_disk or 0:.1f} s after" if found.gone_from_disk else "still there"
            table.add_row("the broker's files, after the purge", still)
        Console().print(table)
    if not found.passed:
        raise typer.Exit(1)
