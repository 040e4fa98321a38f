"""The command ``lethe``: its subcommands in groups, and how errors end it."""

import os
from importlib.metadata import version
from typing import Annotated, Final, NoReturn

import typer
from rich.console import Console
from typer import Option

from lethe.cli.anatomy import anatomy
from lethe.cli.attack import attack
from lethe.cli.audit import audit
from lethe.cli.bench import app as bench
from lethe.cli.chaos import chaos
from lethe.cli.checkpoint import app as checkpoint
from lethe.cli.compare import compare
from lethe.cli.demo import demo
from lethe.cli.export import export_model
from lethe.cli.forget import forget
from lethe.cli.help import LOOK, MEASURE, PROVE, RUN, examples
from lethe.cli.learners import learners
from lethe.cli.limits import check_limits
from lethe.cli.merge import merge
from lethe.cli.promote import promote
from lethe.cli.run import run
from lethe.cli.settings import settings
from lethe.cli.subtract import subtract
from lethe.cli.verify import verify
from lethe.cli.watch import watch
from lethe.errors import LetheError
from lethe.files.terminal import markup

__all__ = ["app", "main"]

SPINS: Final = "100000"
"""How often an idle thread of torch polls for work before it sleeps: for about 7 ms. The default, three times
as long, takes a core from the threads of `lethe.learners.parallel`. With much less, a thread falls
asleep while a request uses another core, and wakes up when none is free: at 100 predictions per second,
finetune lost 17 to 21 % of its speed with 100,000, and 27 to 30 % with 30,000."""

app = typer.Typer(
    name="lethe",
    help="Learn online from a Kafka stream, discard every sample after use, and see what is being forgotten.",
    epilog=examples("lethe demo", "lethe run --topic images --learner ridge", "lethe settings stream"),
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they print local variables, and those may be pixels
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lethe {version('lethe')}")
        raise typer.Exit


@app.callback()
def _lethe(
    *,
    version: Annotated[
        bool, Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before a subcommand."""


app.command(
    rich_help_panel=RUN,
    epilog=examples(
        "lethe run --topic images --learner ridge --state state",
        "lethe run --probes probes --report report --stop-after 120000",
        "lethe run --policy clinic --state state",
    ),
)(run)
app.command(
    rich_help_panel=RUN,
    epilog=examples("lethe demo", "lethe demo --scenario permuted --learner ridge --samples 5000"),
)(demo)
app.command(
    rich_help_panel=RUN,
    epilog=examples(
        "lethe watch --probes probes --url http://model:8080/v2/models/digits/infer",
        "lethe watch --probes probes --python my_package:predict --every 600",
        "lethe watch --probes probes --checkpoints runs --backbone nets:resnet",
    ),
)(watch)
app.command(rich_help_panel=LOOK, epilog=examples("lethe settings stream", "lethe settings --markdown"))(
    settings
)
app.command(rich_help_panel=LOOK, epilog=examples("lethe learners", "lethe learners ridge"))(learners)
app.add_typer(checkpoint, name="checkpoint", rich_help_panel=LOOK)
app.command(
    rich_help_panel=LOOK,
    epilog=examples(
        "lethe compare report/finetune/run.json report/ridge/run.json",
        "lethe compare before/run.json after/run.json --html compared.html",
    ),
)(compare)
app.command(
    "export",
    rich_help_panel=LOOK,
    epilog=examples(
        "lethe export state --to onnx --probes probes",
        "lethe export state --to safetensors --out weights.safetensors",
    ),
)(export_model)
app.command(
    rich_help_panel=PROVE,
    epilog=examples(
        "lethe audit state/ledger.jsonl --policy clinic",
        "lethe audit state/ledger.jsonl --html audit.html",
    ),
)(audit)
app.command(
    rich_help_panel=PROVE,
    epilog=examples("lethe forget state image.png --label 3", "lethe forget state samples.npz"),
)(forget)
app.command(
    rich_help_panel=PROVE,
    epilog=examples(
        "lethe verify state samples.npz",
        "lethe verify state --bootstrap-servers 127.0.0.1:9092",
    ),
)(verify)
app.command(rich_help_panel=PROVE, epilog=examples("lethe merge rank-0 rank-1 --out both"))(merge)
app.command(rich_help_panel=PROVE, epilog=examples("lethe subtract both rank-1 --out rank-0-again"))(subtract)
app.command(
    rich_help_panel=PROVE,
    epilog=examples("lethe chaos --kills 5 --learner ridge", "lethe chaos --faults all"),
)(chaos)
app.command(
    "test",
    rich_help_panel=PROVE,
    epilog=examples(
        "lethe test report/run.json --max-forgetting 0.02 --min-acc 0.9",
        "lethe test report/ridge/run.json --min-bwt -0.01 --json",
    ),
)(check_limits)
app.command(
    rich_help_panel=PROVE,
    epilog=examples(
        "lethe promote champion/run.json challenger/run.json --to served.json",
        "lethe promote a/run.json b/run.json --to served.yaml --config-map digits",
        "lethe promote --rollback --to served.json",
    ),
)(promote)
app.command(
    rich_help_panel=MEASURE,
    epilog=examples("lethe attack --learner ridge --samples 1000", "lethe attack --json"),
)(attack)
app.command(
    rich_help_panel=MEASURE,
    epilog=examples(
        "lethe anatomy --learner finetune --samples 2000 --seeds 1",
        "lethe anatomy --scenario rotated --switch 2",
        "lethe anatomy --from state",
    ),
)(anatomy)
app.add_typer(bench, name="bench", rich_help_panel=MEASURE)


def main() -> None:
    """Run the command; an error of Lethe's is one line on stderr and its exit status."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # torch reads it when it is imported
    try:
        app(prog_name="lethe")
    except LetheError as error:
        _fail(*str(error).split("\n") if error.multiline else [str(error)], status=error.status)
    except OSError as error:
        if error.filename is None:
            raise  # not about a file that the user named
        _fail(f"{error.filename}: {error.strerror}")


def _fail(*lines: str, status: int = 2) -> NoReturn:
    reason = "\n".join(map(markup, lines))
    Console(stderr=True).print(f"[bold red]lethe:[/] {reason}", soft_wrap=True, emoji=False)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
