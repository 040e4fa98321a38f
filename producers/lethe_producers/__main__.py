"""The command ``lethe-replay``: data sets, scenarios, probe sets and streams."""

import json
import logging
import sys
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer
from rich.console import Console
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
from typer import Option

from lethe.errors import InvalidSetting, LetheError
from lethe.files.terminal import markup
from lethe.stream.addresses import broker_at
from lethe.stream.security import read_security
from lethe.wire import PNG, RAW, Layout
from lethe_producers.dataset_downloads import fetch
from lethe_producers.datasets import DATASETS, default_root
from lethe_producers.order import EndlessOrder, Order
from lethe_producers.probes import write_probes
from lethe_producers.records import Records
from lethe_producers.replay import Pace
from lethe_producers.scenario import Scenario, load_scenario, scenario_schema, shipped_scenarios

__all__ = ["app", "main"]

FAILED: Final = 2
STREAM: Final = "The stream"
TOPIC: Final = "A topic that is created"
BACKPRESSURE: Final = "Backpressure"
DISPLAY: Final = "Display"

INTERRUPTED: Final = 130
"""Exit status of a command that Ctrl-C ended, as in a shell."""


def _examples(*commands: str) -> str:
    return "\n".join(["Examples:", *(f"$ {command}" for command in commands)])


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lethe-replay {version('lethe')}")
        raise typer.Exit


app = typer.Typer(
    name="lethe-replay",
    help="Replay data sets into a Kafka topic, as a stream whose subject changes.",
    epilog=_examples(
        "lethe-replay scenarios",
        "lethe-replay stream --bootstrap-servers 127.0.0.1:9092 --topic images",
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def _replay(
    *,
    version: Annotated[
        bool,
        Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Take the options that stand before a subcommand."""


class Encoding(StrEnum):
    """How images are encoded."""

    raw = "raw"
    png = "png"


class LabelForm(StrEnum):
    """What the label of a record is."""

    numbers = "numbers"
    names = "names"


Servers = Annotated[str, Option(help="HOST:PORT of the Kafka cluster, several separated by commas.")]
ApiVersion = Annotated[
    str | None,
    Option(metavar="X.Y", help="Kafka protocol version to assume instead of asking the broker."),
]
Security = Annotated[
    str,
    Option(
        metavar="JSON",
        envvar="LETHE_STREAM__SECURITY",
        show_envvar=False,
        show_default=False,
        help="TLS and SASL options of kafka-python; a value @FILE is read from that file. Default: the"
        " variable of lethe run's setting stream.security.",
    ),
]
ReplicationFactor = Annotated[
    int, Option(metavar="N", min=1, help="Replication factor.", rich_help_panel=TOPIC)
]
ScenarioOption = Annotated[str, Option(help="A built-in scenario's name, or a YAML file: ./NAME.yaml.")]
RootOption = Annotated[
    Path,
    Option(
        help="Folder of data sets. Default: $LETHE_DATA, or lethe in the user's cache folder.",
        default_factory=default_root,
        show_default=False,
    ),
]


@app.command(
    epilog=_examples(
        "lethe-replay stream --bootstrap-servers 127.0.0.1:9092 --topic images",
        "lethe-replay stream --bootstrap-servers kafka:9092 --topic images --rate 500",
    )
)
def stream(
    *,
    bootstrap_servers: Servers,
    topic: Annotated[str, Option(help="Topic to send to; created if it does not exist.")],
    api_version: ApiVersion = None,
    security: Security = "{}",
    scenario: ScenarioOption = "mnist-to-fashion",
    seed: Annotated[
        int, Option(metavar="N", min=0, help="Seed of the stream's order.", rich_help_panel=STREAM)
    ] = 0,
    samples: Annotated[
        int | None,
        Option(metavar="N", min=1, help="Maximum records of each segment.", rich_help_panel=STREAM),
    ] = None,
    rate: Annotated[
        float | None,
        Option(
            metavar="N",
            min=0.01,
            help="Records per second. Default: the scenario's, else as fast as possible.",
            rich_help_panel=STREAM,
        ),
    ] = None,
    burst: Annotated[
        int,
        Option(
            metavar="N", min=1, help="Records sent at once, at the same mean rate.", rich_help_panel=STREAM
        ),
    ] = 1,
    content_type: Annotated[
        Encoding, Option(help="Encoding of the images.", rich_help_panel=STREAM)
    ] = Encoding.raw,
    labels: Annotated[
        LabelForm,
        Option(
            help="Labels as numbers, or as names: for services with --classes or --max-classes.",
            rich_help_panel=STREAM,
        ),
    ] = LabelForm.numbers,
    loop: Annotated[
        bool,
        Option(
            "--loop",
            help="Begin again at the end, in another order, until Ctrl-C.",
            rich_help_panel=STREAM,
        ),
    ] = False,
    resume: Annotated[
        bool,
        Option(
            "--resume", help="Continue after the stream's last record in the topic.", rich_help_panel=STREAM
        ),
    ] = False,
    partitions: Annotated[
        int | None,
        Option(metavar="N", min=1, help="Number of partitions. Default: 4.", rich_help_panel=TOPIC),
    ] = None,
    replication_factor: ReplicationFactor = 1,
    retention: Annotated[
        float | None,
        Option(
            metavar="SECONDS",
            min=1,
            help="Retention time. Records are deleted after it, learned or not, and purged records leave the"
            " disk soon.",
            rich_help_panel=TOPIC,
        ),
    ] = None,
    hold_back: Annotated[
        list[str] | None,
        Option(
            metavar="URL", help="A service's /state to wait for; repeatable.", rich_help_panel=BACKPRESSURE
        ),
    ] = None,
    window: Annotated[
        int,
        Option(
            metavar="N",
            min=1,
            help="Maximum records ahead of the slowest service.",
            rich_help_panel=BACKPRESSURE,
        ),
    ] = 3000,
    hold_back_timeout: Annotated[
        float,
        Option(
            metavar="SECONDS",
            min=0,
            help="Time to wait for a service that does not respond.",
            rich_help_panel=BACKPRESSURE,
        ),
    ] = 60.0,
    progress: Annotated[
        bool | None,
        Option(help="Show a progress bar on stderr. Default: on terminals.", rich_help_panel=DISPLAY),
    ] = None,
    root: RootOption,
) -> None:
    """Send a scenario's records to a topic, each exactly once."""
    # kafka-python and httpx take a while to import, and --help needs neither
    from lethe.stream.connection import Cluster
    from lethe_producers.delivery import BackpressureOptions, deliver
    from lethe_producers.publisher import Publisher, short_lived

    cluster = Cluster(bootstrap_servers, _api_version(api_version), security=read_security(security))
    for url in hold_back or ():
        _check_no_broker(url, bootstrap_servers)
    backpressure = BackpressureOptions(hold_back or (), window, hold_back_timeout)
    chosen = load_scenario(scenario, root)
    pace = Pace(chosen.rate if rate is None else rate, burst)
    if burst > 1 and pace.rate is None:
        raise InvalidSetting(f"--burst {burst} requires --rate")
    _fetch_for(chosen, root)
    configs = None if retention is None else short_lived(retention)
    endless = "stream" if loop else chosen.loop
    order = Order(chosen, seed, samples) if endless is None else EndlessOrder(chosen, seed, samples, endless)
    encoding = PNG if content_type is Encoding.png else RAW
    records = Records(order, root, encoding, named=labels is LabelForm.names)
    with (
        Publisher(cluster, topic, partitions, replication_factor, configs) as publisher,
        _progress_bar(progress) as bar,
    ):
        done = deliver(records, publisher, pace, backpressure, resume, bar)
    summary = Table("stream", records.order.run)
    summary.add_row("topic", f"{topic}, {publisher.partitions} partitions")
    of = "" if done.wanted is None else f" of {done.wanted:,}"
    summary.add_row("records acknowledged", f"{done.acknowledged:,}{of}")
    summary.add_row("seconds", f"{done.seconds:.1f}")
    summary.add_row("records a second", f"{done.acknowledged / done.seconds:,.0f}")
    Console().print(summary)
    if done.wanted is None:
        raise typer.Exit(INTERRUPTED)
    if done.acknowledged < done.wanted:
        missing = f"{done.wanted - done.acknowledged:,} of {done.wanted:,} records"
        trouble = f" ({done.trouble})" if done.trouble else ""
        said = (
            f"Interrupted: {missing} were not sent{trouble}. Repeat the command with --resume to send them."
        )
        _say(said, "yellow")
        raise typer.Exit(INTERRUPTED)


@app.command(epilog=_examples("lethe-replay probes --out probes --scenario permuted"))
def probes(
    *,
    out: Annotated[Path, Option(help="Folder to write to.")],
    scenario: ScenarioOption = "mnist-to-fashion",
    root: RootOption,
) -> None:
    """Write a scenario's held-out probe sets to files, for lethe run --probes DIR.

    On stderr are the flags with which lethe run reads the scenario's records.
    """
    if any(out.glob("*.safetensors")):
        raise InvalidSetting(f"--out {out} already contains probe files, and a service would read them, too")
    chosen = load_scenario(scenario, root)
    _fetch_for(chosen, root)
    for path in write_probes(chosen, root, out):
        typer.echo(path)
    flags = [
        f"--sample-{name.replace('_', '-')} {value}"
        for name, value in chosen.layout.model_dump().items()
        if value != getattr(Layout(), name)
    ]
    if flags:
        _say(f"lethe run --probes {out} {' '.join(flags)}", "cyan")


@app.command(epilog=_examples("lethe-replay topic --bootstrap-servers 127.0.0.1:9092 --topic photos"))
def topic(
    *,
    bootstrap_servers: Servers,
    topic: Annotated[str, Option(help="Topic to create.")],
    api_version: ApiVersion = None,
    security: Security = "{}",
    partitions: Annotated[int, Option(metavar="N", min=1, help="Number of partitions.")] = 4,
    replication_factor: ReplicationFactor = 1,
    retention: Annotated[
        float,
        Option(
            metavar="SECONDS",
            min=1,
            help="Retention time. Records are deleted after it, learned or not.",
        ),
    ] = 86_400.0,
) -> None:
    """Create a topic whose purged and expired records soon leave the broker's disk."""
    from lethe.stream.connection import Cluster
    from lethe_producers.publisher import Publisher, short_lived

    cluster = Cluster(bootstrap_servers, _api_version(api_version), security=read_security(security))
    configs = short_lived(retention)
    with Publisher(cluster, topic, partitions, replication_factor, configs) as publisher:
        if not publisher.created:
            raise InvalidSetting(f"topic {topic} exists already: its settings were left as they are")
    table = Table("topic", topic)
    table.add_row("partitions", str(partitions))
    table.add_row("replication factor", str(replication_factor))
    for name, value in configs.items():
        table.add_row(name, value)
    Console().print(table)


@app.command(epilog=_examples("lethe-replay schema"))
def schema() -> None:
    """Print the JSON Schema of a scenario's file, with which editors check and complete it."""
    typer.echo(json.dumps(scenario_schema(), indent=2, ensure_ascii=False))


@app.command(epilog=_examples("lethe-replay data", "lethe-replay data --root datasets"))
def data(root: RootOption) -> None:
    """Download the data sets, verify every file, and show its source."""
    table = Table("data set", "file", "SHA-256", "source", title=str(root))
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
        _print_error(str(failure))
    if failures:
        raise typer.Exit(FAILED)


@app.command(epilog=_examples("lethe-replay scenarios"))
def scenarios() -> None:
    """List the built-in scenarios."""
    table = Table("scenario", "records", "segments", "description")
    for scenario in shipped_scenarios():
        subjects = " → ".join(segment.subject for segment in scenario.segments)
        table.add_row(scenario.name, f"{scenario.total():,}", subjects, scenario.description)
    Console().print(table)


def main() -> None:
    """Run the command; an error of Lethe's, or of the system, is one line on stderr and exit status 2."""
    # the error that kafka-python ends in is reported once, without its log
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    try:
        app(prog_name="lethe-replay")
    except LetheError as error:
        _print_error(str(error))
        sys.exit(FAILED)
    except OSError as error:
        _print_error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        sys.exit(FAILED)


def _fetch_for(scenario: Scenario, root: Path) -> None:
    for name in scenario.datasets:
        fetch(name, root)


def _check_no_broker(url: str, bootstrap_servers: str) -> None:
    parts = urlsplit(url)
    try:
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError as error:
        raise InvalidSetting(f"--hold-back {url} is not an address: {error}") from error
    if (broker := broker_at(bootstrap_servers, parts.hostname or "", port)) is not None:
        raise InvalidSetting(
            f"--hold-back {url} is {broker} of --bootstrap-servers: give the URL of a service's /state"
        )


def _api_version(text: str | None) -> tuple[int, ...] | None:
    try:
        return None if text is None else tuple(map(int, text.split(".")))
    except ValueError:
        raise InvalidSetting(f"--api-version {text!r} is not a version such as 2.1") from None


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
    Console(stderr=True, soft_wrap=True).print(f"[{colour}]{markup(message)}[/{colour}]", highlight=False)


def _print_error(message: str) -> None:
    Console(stderr=True, soft_wrap=True).print(
        f"[bold red]lethe-replay:[/] {markup(message)}", highlight=False
    )


if __name__ == "__main__":
    main()
