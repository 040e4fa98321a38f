"""The commands ``lethe checkpoint …``."""

import json
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from typer import Option

from lethe.cli.flags import read_pairs
from lethe.cli.help import examples
from lethe.cli.options import StateFolder
from lethe.errors import InvalidFile, InvalidSetting
from lethe.files.terminal import markup

__all__ = ["app"]

app = typer.Typer(help="Inspect the checkpoints of a run, or roll back to one.", no_args_is_help=True)


@app.command("list", epilog=examples("lethe checkpoint list state"))
def list_checkpoints(folder: StateFolder) -> None:
    """List the checkpoints, oldest first."""
    from lethe.checkpointing.checkpoint import read_samples

    table = Table(title=markup(str(folder)), title_justify="left")
    for column in ("file", "written (UTC)", "bytes", "samples"):
        table.add_column(column, overflow="fold")  # names must be complete
    for path in _files(folder):
        try:
            about = path.stat()
        except FileNotFoundError:
            continue  # a live service deletes its oldest
        try:
            samples = f"{read_samples(path):,}"
        except InvalidFile:
            samples = "unreadable"
        written = datetime.fromtimestamp(about.st_mtime, UTC)
        table.add_row(path.name, f"{written:%Y-%m-%d %H:%M:%S}", f"{about.st_size:,}", samples)
    Console().print(table)


@app.command(epilog=examples("lethe checkpoint show state"))
def show(folder: StateFolder) -> None:
    """Show the contents of the newest checkpoint."""
    from lethe.checkpointing.checkpoint import read_checkpoint

    newest = _files(folder)[-1]
    checkpoint = read_checkpoint(newest)
    table = Table("item", title=markup(str(newest)), title_justify="left")
    table.add_column("value", overflow="fold")
    table.add_row("samples learned", f"{checkpoint.samples:,}")
    table.add_row("SHA-256 of the learner", checkpoint.digest)
    for partition, offset in sorted(checkpoint.position.offsets.items()):
        table.add_row(f"partition {partition} resumes at", str(offset))
    table.add_row("topic id", checkpoint.position.topic_id or "none: the broker does not support topic ids")
    for name, value in checkpoint.fingerprint.items():
        table.add_row(markup(name), markup(str(value)))
    tensors = checkpoint.learner.tensors
    shapes = "\n".join(f"{name} {tuple(tensors[name].shape)}" for name in sorted(tensors))
    table.add_row("tensors", markup(shapes))
    Console().print(table)


@app.command(epilog=examples("lethe checkpoint verify state"))
def verify(folder: StateFolder) -> None:
    """Read every checkpoint and verify its SHA-256.

    Exit status 1 if one cannot be read.
    """
    from lethe.checkpointing.checkpoint import read_checkpoint

    bad = 0
    table = Table("file", "verdict", title=markup(str(folder)), title_justify="left")
    for path in _files(folder):
        try:
            checkpoint = read_checkpoint(path)
        except InvalidFile as error:
            if not path.exists():
                continue  # a live service deletes its oldest
            bad += 1
            table.add_row(path.name, f"[red]{markup(str(error))}[/]")
        else:
            table.add_row(path.name, f"[green]good[/], {checkpoint.samples:,} samples learned")
    Console().print(table)
    if bad:
        raise typer.Exit(1)


@app.command(
    epilog=examples(
        "lethe checkpoint rollback state --option lr=0.01",
        "lethe checkpoint rollback state --to 12800",
        "lethe checkpoint rollback state --to 12800 --keep-position",
    )
)
def rollback(
    folder: StateFolder,
    to: Annotated[
        str | None,
        Option(
            metavar="SAMPLES|FILE",
            help="Checkpoint to go back to. Default: the newest finite one; with --keep-position, the newest "
            "that has learned less.",
        ),
    ] = None,
    keep_position: Annotated[
        bool,
        Option(
            "--keep-position",
            help="Go on where the run is, with the older learner: nothing is read or learned again.",
        ),
    ] = False,
    option: Annotated[
        list[str] | None,
        Option(metavar="NAME=VALUE", help="New value of a learner's option; repeatable."),
    ] = None,
    learner: Annotated[
        str | None,
        Option(help="Learner of another package that the checkpoint names; imports its code."),
    ] = None,
) -> None:
    """Roll back to a checkpoint, optionally with other options of the learner.

    The service must be stopped. Newer checkpoints are moved aside, and the ledger gets a receipt.
    """
    if keep_position:
        _restore(folder, to, option, learner)
        return
    from lethe.privacy.rollback import roll_back

    done = roll_back(folder, to, read_pairs("--option", option or []), learner)
    console = Console(soft_wrap=True)
    console.print(f"{markup(str(done.checkpoint))} resumes after {done.samples:,} samples")
    if done.aside is not None:
        console.print(
            f"unlearned: {done.unlearned:,} samples; moved newer checkpoints to {markup(str(done.aside))}"
        )
    for name, (was, now) in sorted(done.changed.items()):
        console.print(f"learner.options.{markup(f'{name}: {was} → {now}')}")
    if done.changed:
        flags = " ".join(
            f"--option {shlex.quote(f'{name}={_written(now)}')}" for name, (_, now) in done.changed.items()
        )
        console.print(f"start the service with {markup(flags)}")


def _restore(folder: Path, to: str | None, option: list[str] | None, learner: str | None) -> None:
    from lethe.privacy.restoration import restore_learner

    if option:
        raise InvalidSetting("--option: with --keep-position the learner keeps its options; leave one out")
    done = restore_learner(folder, to, learner)
    console = Console(soft_wrap=True)
    console.print(
        f"{markup(str(done.checkpoint))} resumes after {done.samples:,} samples, "
        f"with the learner of {done.older:,}"
    )
    console.print(
        f"unlearned: {done.unlearned:,} samples, which are not read again; "
        f"moved newer checkpoints to {markup(str(done.aside))}"
    )


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _files(folder: Path) -> list[Path]:
    from lethe.checkpointing.state_folder import checkpoint_files

    files = checkpoint_files(folder)
    if not files:
        raise InvalidFile(f"{folder} holds no checkpoints")
    return files
