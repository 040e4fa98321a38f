"""The command ``lethe-replay``: data sets, scenarios, probe sets, and the stream itself."""

import logging
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from producers.broker import Broker, read_security
from producers.datasets import DATASETS, default_root
from producers.order import Order
from producers.probes import write_probes
from producers.records import Records
from producers.replay import Pace
from producers.scenario import Scenario, load_scenario, shipped_scenarios
from producers.sources import fetch
from service.errors import InvalidSetting, LetheError
from service.wire import PNG, RAW

__all__ = ["app", "main"]

FAILED: Final = 2
INTERRUPTED: Final = 130
"""What a shell reports for a command that Ctrl-C ended."""

app = typer.Typer(
    name="lethe-replay",
    help="Replay data sets into a Kafka topic, as a stream whose subject changes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Encoding(StrEnum):
    """How the images travel."""

    raw = "raw"
    png = "png"


ScenarioOption = Annotated[str, typer.Option(help="A shipped scenario's name, or a YAML file.")]
RootOption = Annotated[Path, typer.Option(help="Where data sets are kept.", default_factory=default_root)]


@app.command()
def stream(
    *,
    bootstrap_servers: Annotated[str, typer.Option(help="HOST:PORT, several with commas.")],
    topic: Annotated[str, typer.Option(help="Created when it is missing.")],
    scenario: ScenarioOption = "mnist-to-fashion",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same stream.")] = 0,
    samples: Annotated[int | None, typer.Option(min=1, help="At most so many of each segment.")] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.01, help="Records a second; as fast as possible without it.")
    ] = None,
    burst: Annotated[int, typer.Option(min=1, help="Send so many at once, at the same mean rate.")] = 1,
    content_type: Annotated[Encoding, typer.Option(help="How the images travel.")] = Encoding.raw,
    partitions: Annotated[
        int | None, typer.Option(min=1, help="Of a topic that is created: 4 without it.")
    ] = None,
    replication_factor: Annotated[int, typer.Option(min=1, help="Of a topic that is created.")] = 1,
    retention: Annotated[
        float | None,
        typer.Option(
            min=1,
            metavar="SECONDS",
            help="Of a topic that is created: no record stays longer, learned or not, and what is purged"
            " leaves the disk soon, too.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after the stream's last record in the topic.")
    ] = False,
    hold_back: Annotated[
        list[str] | None, typer.Option(help="Address of a service's /state to wait for; repeatable.")
    ] = None,
    window: Annotated[
        int, typer.Option(min=1, help="How many records ahead of the slowest service to be.")
    ] = 3000,
    hold_back_timeout: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for a service that does not answer.")
    ] = 60.0,
    progress: Annotated[
        bool | None, typer.Option(help="A progress bar on stderr; by default, on terminals.")
    ] = None,
    api_version: Annotated[
        str | None, typer.Option(metavar="X.Y", help="Do not ask the broker: 2.1 for the embedded one.")
    ] = None,
    security: Annotated[
        str,
        typer.Option(
            metavar="JSON",
            envvar="LETHE_STREAM__SECURITY",
            help='More kafka-python options, such as {"security_protocol": "SASL_SSL", …}; a value @FILE is'
            " read from that file. The variable is the service's, too.",
        ),
    ] = "{}",
    root: RootOption,
) -> None:
    """Send a scenario's records to a topic, each once."""
    # kafka-python and httpx take a while to import, and --help needs neither
    from producers.delivery import HoldBackOptions, deliver
    from producers.publisher import Publisher, short_lived

    broker = Broker(bootstrap_servers, _api_version(api_version), security=read_security(security))
    throttle = HoldBackOptions(hold_back or (), window, hold_back_timeout)
    chosen = load_scenario(scenario)
    _fetch_for(chosen, root)
    configs = None if retention is None else short_lived(retention)
    records = Records(Order(chosen, seed, samples), root, PNG if content_type is Encoding.png else RAW)
    with (
        Publisher(broker, topic, partitions, replication_factor, configs) as publisher,
        _progress_bar(progress) as bar,
    ):
        done = deliver(records, publisher, Pace(rate, burst), throttle, resume, bar)
    summary = Table("stream", records.order.run)
    summary.add_row("topic", f"{topic}, {publisher.partitions} partitions")
    summary.add_row("records acknowledged", f"{done.acknowledged:,} of {done.wanted:,}")
    summary.add_row("seconds", f"{done.seconds:.1f}")
    summary.add_row("records a second", f"{done.acknowledged / done.seconds:,.0f}")
    Console().print(summary)
    if done.acknowledged < done.wanted:
        missing = f"{done.wanted - done.acknowledged:,} of {done.wanted:,} records"
        _say(f"Interrupted: {missing} are not sent. The same command with --resume sends them.", "yellow")
        raise typer.Exit(INTERRUPTED)


@app.command()
def probes(
    *,
    out: Annotated[Path, typer.Option(help="The folder to write into.")],
    scenario: ScenarioOption = "mnist-to-fashion",
    root: RootOption,
) -> None:
    """Write a scenario's held-out probe sets as files, for lethe run --probes DIR."""
    chosen = load_scenario(scenario)
    if any(out.glob("*.safetensors")):
        raise InvalidSetting(f"out: {out} already holds probe files, and a service would read those too")
    _fetch_for(chosen, root)
    for path in write_probes(chosen, root, out):
        typer.echo(path)


@app.command()
def data(root: RootOption) -> None:
    """Fetch the data sets, verify every file, and show where each came from."""
    table = Table("data set", "file", "SHA-256", "where from", title=str(root))
    failures = []
    for name, dataset in DATASETS.items():
        try:
            where = fetch(name, root)
        except LetheError as error:
            failures.append(error)
        else:
            for file, digest in dataset.sha256.items():
                table.add_row(name, file, f"ok {digest[:16]}…", where)
    if table.row_count:
        Console().print(table)
    for failure in failures:
        _say(str(failure), "red")
    if failures:
        raise typer.Exit(FAILED)


@app.command()
def scenarios() -> None:
    """List the scenarios that come with Lethe."""
    table = Table("scenario", "records", "segments", "what happens")
    for scenario in shipped_scenarios():
        subjects = " → ".join(segment.subject for segment in scenario.segments)
        table.add_row(scenario.name, f"{scenario.total():,}", subjects, scenario.description)
    Console().print(table)


def main() -> None:
    """Run the command; an error of Lethe's own, or of the system, is one red line and exit code 2."""
    # what kafka-python logs on the way to giving up is said once, by the error that it ends in
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    try:
        app()
    except LetheError as error:
        _say(str(error), "red")
        sys.exit(FAILED)
    except OSError as error:
        _say(f"{error.filename}: {error.strerror}" if error.filename else str(error), "red")
        sys.exit(FAILED)


def _fetch_for(scenario: Scenario, root: Path) -> None:
    for name in sorted({segment.dataset for segment in scenario.segments}):
        fetch(name, root)


def _api_version(text: str | None) -> tuple[int, ...] | None:
    try:
        return None if text is None else tuple(map(int, text.split(".")))
    except ValueError:
        raise InvalidSetting(f"api-version is {text!r}, and must be a version such as 2.1") from None


class _Speed(ProgressColumn):
    def render(self, task: Task) -> str:
        return "" if task.speed is None else f"{task.speed:,.0f} records/s"


def _progress_bar(wanted: bool | None) -> Progress:
    console = Console(stderr=True, force_terminal=wanted or None)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Speed(),
        TimeRemainingColumn(),
        console=console,
        disable=wanted is False or not console.is_terminal,
    )


def _say(message: str, colour: str) -> None:
    Console(stderr=True, soft_wrap=True).print(f"[{colour}]{escape(message)}[/{colour}]", highlight=False)


if __name__ == "__main__":
    main()
