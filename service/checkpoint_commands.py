"""The commands ``lethe checkpoint …``."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer import Argument

from service.errors import InvalidFile

__all__ = ["app"]

Folder = Annotated[Path, Argument(metavar="DIR", help="A state folder, as lethe run --state was given.")]

app = typer.Typer(help="Look at the checkpoints of a run.", no_args_is_help=True)


@app.command("list")
def list_checkpoints(folder: Folder) -> None:
    """List the checkpoints, oldest first."""
    table = Table("file", "written (UTC)", "bytes", title=escape(str(folder)), title_justify="left")
    for path in _files(folder):
        try:
            about = path.stat()
        except FileNotFoundError:
            continue  # a live service drops its oldest
        written = datetime.fromtimestamp(about.st_mtime, UTC)
        table.add_row(path.name, f"{written:%Y-%m-%d %H:%M:%S}", f"{about.st_size:,}")
    Console().print(table)


@app.command()
def show(folder: Folder) -> None:
    """Show what the newest checkpoint holds."""
    from service.checkpoint import read_checkpoint

    newest = _files(folder)[-1]
    checkpoint = read_checkpoint(newest)
    table = Table("what", title=escape(str(newest)), title_justify="left")
    table.add_column("value", overflow="fold")
    table.add_row("samples learned", f"{checkpoint.samples:,}")
    table.add_row("SHA-256 of the learner", checkpoint.digest)
    for partition, offset in sorted(checkpoint.position.offsets.items()):
        table.add_row(f"partition {partition} goes on at", str(offset))
    table.add_row("topic id", checkpoint.position.topic_id or "the broker has none")
    for name, value in checkpoint.fingerprint.items():
        table.add_row(escape(name), escape(str(value)))
    tensors = checkpoint.learner.tensors
    shapes = "\n".join(f"{name} {tuple(tensors[name].shape)}" for name in sorted(tensors))
    table.add_row("tensors", escape(shapes))
    Console().print(table)


@app.command()
def verify(folder: Folder) -> None:
    """Read every checkpoint and check its SHA-256; exit status 1 if one cannot be read."""
    from service.checkpoint import read_checkpoint

    bad = 0
    table = Table("file", "verdict", title=escape(str(folder)), title_justify="left")
    for path in _files(folder):
        try:
            checkpoint = read_checkpoint(path)
        except InvalidFile as error:
            if not path.exists():
                continue  # a live service drops its oldest
            bad += 1
            table.add_row(path.name, f"[red]{escape(str(error))}[/]")
        else:
            table.add_row(path.name, f"[green]good[/], {checkpoint.samples:,} samples learned")
    Console().print(table)
    if bad:
        raise typer.Exit(1)


def _files(folder: Path) -> list[Path]:
    from service.state_folder import checkpoint_files

    files = checkpoint_files(folder)
    if not files:
        raise InvalidFile(f"{folder} holds no checkpoints")
    return files
