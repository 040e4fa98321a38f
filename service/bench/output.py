"""What the commands ``lethe bench …`` draw: a bar while they measure, and the numbers at the end."""

import json
import sys
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

__all__ = ["progress", "show"]


def progress() -> Progress:
    """Return a progress bar on the error stream, which leaves the other one to the numbers."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))


def show(numbers: Mapping[str, object], as_json: bool) -> None:
    """Print what was measured: one JSON document, or a table that fits any terminal."""
    if as_json:
        json.dump(numbers, sys.stdout)
        sys.stdout.write("\n")
        return
    table = Table("what", "measured")
    for name, value in numbers.items():
        table.add_row(name.replace("_", " "), f"{value:,.3f}" if isinstance(value, float) else f"{value}")
    Console().print(table)
