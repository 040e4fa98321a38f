"""The command ``lethe``: reads settings, starts what was asked for, and says what went wrong."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from typer import Option

from service import checkpoint_commands as checkpoints
from service.attack.command import attack_learners
from service.bench import commands as bench
from service.chaos.command import chaos
from service.errors import LetheError
from service.flags import with_settings
from service.learner_commands import learners
from service.privacy.commands import audit_ledger
from service.privacy.forget_command import forget_samples
from service.settings import Settings

__all__ = ["app", "main"]

SPINS: Final = "100000"
"""How often a thread of torch's looks for more to do before it sleeps: for about 7 ms. By default it does so
three times as long, and keeps a core from the threads of `service.learners.sharing`. With much less it falls
asleep while a request has another one's core, and wakes where none is free: asked 100 times a second,
finetune lost 17 to 21 % of its speed with 100,000, and 27 to 30 % with 30,000."""

app = typer.Typer(
    name="lethe",
    help="Learn online from a Kafka stream, discard every sample after use, see what is being forgotten.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they print local variables, and those may be pixels
)


app.add_typer(bench.app, name="bench")
app.add_typer(checkpoints.app, name="checkpoint")
app.command()(chaos)


@app.command()
@with_settings
def run(settings: Settings) -> None:
    """Learn from a topic: the consumer service alone. Every flag is also a LETHE_… variable."""
    from service.compose import run_service  # torch takes seconds to import: not for --help

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    run_service(settings)


@app.command()
def demo(
    *,
    scenario: Annotated[str, Option(help="A shipped scenario's name, or a YAML file.")] = "mnist-to-fashion",
    learner: Annotated[list[str] | None, Option(help="Repeatable; lethe learners lists them.")] = None,
    broker: Annotated[
        str | None, Option(metavar="HOST:PORT", help="A Kafka cluster; without it, a broker in this process.")
    ] = None,
    samples: Annotated[int | None, Option(min=1, help="At most so many of each segment.")] = None,
    seed: Annotated[int, Option(min=0, help="Of the stream's order and of the learners.")] = 0,
    rate: Annotated[float | None, Option(min=0.01, help="Records a second; without it, all speed.")] = None,
    report: Annotated[Path, Option(help="Folder for report, results and logs.")] = Path("lethe-demo"),
    policy: Annotated[
        str | None, Option(help="lab, clinic, vault or a policy's file; the services are held to it.")
    ] = None,
    keep_serving: Annotated[bool, Option("--keep-serving", help="Keep the endpoints up.")] = False,
    as_json: Annotated[bool, Option("--json", help="Print one JSON document, and nothing else.")] = False,
) -> None:
    """Stream a scenario to several services side by side, and report what each forgot."""
    from service.demo.conduct import Demo, document, run_demo

    chosen = Demo(scenario, learner or (), broker, samples, seed, rate, report, keep_serving, policy)
    shown = run_demo(chosen, Console(stderr=as_json))
    if as_json:
        json.dump(document(chosen, shown), sys.stdout, indent=1)
        sys.stdout.write("\n")
    if not shown.passed:
        raise typer.Exit(1)


app.command("audit")(audit_ledger)
app.command("forget")(forget_samples)
app.command("attack")(attack_learners)


app.command()(learners)


def main() -> None:
    """Run the command; an error that has a name is one line on stderr and exit status 2."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # torch reads it when it is imported
    try:
        app()
    except LetheError as error:
        _fail(str(error))
    except OSError as error:
        if error.filename is None:
            raise  # not about a file that the user named
        _fail(f"{error.filename}: {error.strerror}")


def _fail(reason: str) -> NoReturn:
    Console(stderr=True).print(f"[bold red]lethe:[/] {escape(reason)}", soft_wrap=True, emoji=False)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
