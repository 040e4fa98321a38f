"""The command ``lethe bench canary``."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from typer import Option

__all__ = ["canary"]


def canary(
    *,
    broker: Annotated[
        str | None, Option(metavar="HOST:PORT", help="A Kafka cluster; without it, a broker in this process.")
    ] = None,
    broker_files: Annotated[
        Path | None, Option(metavar="DIR", help="Where that cluster keeps its data, to look there, too.")
    ] = None,
    policy: Annotated[str, Option(help="lab, clinic, vault or a policy's file.")] = "clinic",
    learner: Annotated[str, Option(help="lethe learners lists them.")] = "finetune",
    quiet: Annotated[float, Option(min=0, help="Seconds without a record, once it is learned.")] = 10.0,
    patience: Annotated[float, Option(min=1, help="Seconds after which it counts as staying.")] = 60.0,
    as_json: Annotated[bool, Option("--json", help="Print one JSON document, and nothing else.")] = False,
) -> None:
    """Plant an image in a stream, and look for its bytes wherever they might have stayed."""
    from service.bench.canary import Canary, run_canary

    console = Console(stderr=True)
    with TemporaryDirectory(prefix="lethe-canary-") as folder, console.status("starting") as status:
        planted = Canary(Path(folder), broker, broker_files, quiet, patience, policy=policy, learner=learner)
        found = run_canary(planted, status.update)
    if as_json:
        json.dump(asdict(found) | {"passed": found.passed}, sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        table = Table("where", "found")
        for process, last in found.memory.items():
            told = f"not after {found.first_look:.1f} s" if last is None else f"until {last:.1f} s after"
            table.add_row(f"memory of the {process}, once learned", told)
        table.add_row("checkpoints, ledger, log, report", ", ".join(found.files) or "in none")
        table.add_row("dead letters", str(found.dead_letters))
        table.add_row("records that the broker serves", str(found.served))
        if broker_files is not None:
            still = f"until {found.on_disk or 0:.1f} s after" if found.gone_from_disk else "still there"
            table.add_row("the broker's files, after the purge", still)
        Console().print(table)
    if not found.passed:
        raise typer.Exit(1)
