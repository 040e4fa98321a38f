"""Output of the commands ``lethe bench …``: a progress bar, and a table or JSON of the results."""

from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from lethe.cli.options import write_json

__all__ = ["progress", "show"]


def progress() -> Progress:
    """Return a progress bar on standard error; standard output is for the results."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))


def show(numbers: Mapping[str, object], as_json: bool) -> None:
    """Print the results: one JSON document, or a table that fits any terminal."""
    if as_json:
        write_json(numbers)
        return
    table = Table("quantity", "value")
    for name, value in numbers.items():
        table.add_row(name.replace("_", " "), f"{value:,.3f}" if isinstance(value, float) else f"{value}")
    Console().print(table)
