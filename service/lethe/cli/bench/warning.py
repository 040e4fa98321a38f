"""The command ``lethe bench warning``."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from typer import Option

from lethe.cli.options import AsJson, Learner, write_json

if TYPE_CHECKING:
    from lethe.experiments.anatomy.warning import Warned, WarnedSwitch

__all__ = ["warning"]

HEAD = (
    "scenario",
    "old probe",
    "the loss surges",
    "a boundary is detected",
    "5 points are lost",
    "surge earlier by",
    "in time",
)


def warning(
    *,
    learner: Learner = "finetune",
    scenario: Annotated[
        list[str] | None,
        Option(help="A scenario's name or YAML file; repeatable. Default: all built-in ones."),
    ] = None,
    samples: Annotated[
        int | None, Option(metavar="N", min=100, help="Maximum records of each segment.")
    ] = None,
    seeds: Annotated[
        int, Option(metavar="N", min=1, help="Runs of each scenario, with the seeds from 0 on.")
    ] = 1,
    markdown: Annotated[bool, Option("--markdown", help="Print the tables as Markdown.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure how long before accuracy is lost a surge of the loss on new batches warns."""
    from lethe.experiments.anatomy.warning import require_network, warnings_of

    require_network(learner)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(learner, total=1.0)
        found = warnings_of(
            learner, scenario or [], seeds, samples, lambda share: bar.update(task, completed=share)
        )
    if as_json:
        write_json({name: [asdict(warned) for warned in runs] for name, runs in found.items()})
        return
    switches = [list(switch) for runs in found.values() for switch in _by_switch(runs)]
    rows, curve = [_row(each) for each in switches], _curve([one for each in switches for one in each])
    console = Console(width=None if not markdown else 200)
    if markdown:
        for head, body in ((HEAD, rows), (curve[0], [curve[1]])):
            lines = [head, ["---"] * len(head), *body]
            console.print(*(f"| {' | '.join(line)} |" for line in lines), "", sep="\n", markup=False)
    else:
        console.print(_table("Samples from a switch until", HEAD, rows))
        console.print(_table("How much earlier than the loss", *((curve[0], [curve[1]]))))
    for name, runs in found.items():
        false, learned = (sum(map(count, runs)) for count in (_false_alarms, _samples))
        console.print(f"{name}: {false} false alarms in {learned:,} samples", highlight=False)


def _by_switch(runs: "Sequence[Warned]") -> "Iterable[Sequence[WarnedSwitch]]":
    """Return each switch of a scenario, with what happened there in each run."""
    return zip(*(run.switches for run in runs), strict=True)


def _false_alarms(run: "Warned") -> int:
    return len(run.false_alarms)


def _samples(run: "Warned") -> int:
    return run.samples


def _row(runs: "Sequence[WarnedSwitch]") -> list[str]:
    columns = [[getattr(run, what) for run in runs] for what in ("warned", "detected", "lost", "earlier")]
    in_time = sum(run.in_time for run in runs)
    shown = f"{in_time} of {len(runs)}"
    return [runs[0].scenario, runs[0].old, *map(_extent, columns), shown]


def _extent(counts: "Sequence[int | None]") -> str:
    """Return the least and the largest number; None, which is never, is larger than any."""
    known = sorted(count for count in counts if count is not None)
    texts = [f"{count:,}" for count in known] + ["never"] * (len(counts) - len(known))
    return texts[0] if texts[0] == texts[-1] else f"{texts[0]} to {texts[-1]}"


def _curve(switches: "Sequence[WarnedSwitch]") -> tuple[list[str], list[str]]:
    """Return at how many switches a surge came how much earlier than the loss of 5 points."""
    from lethe.experiments.anatomy.warning import EARLIER

    lost = [switch for switch in switches if switch.lost is not None]
    counts = [sum((switch.earlier or 0) >= least for switch in lost) for least in EARLIER]
    return (
        ["samples earlier, at least", *(f"{least:,}" for least in EARLIER)],
        [f"of {len(lost)} switches", *map(str, counts)],
    )


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left")
    for place, name in enumerate(head):
        table.add_column(name, justify="left" if place < 2 and len(head) == len(HEAD) else "right")
    for row in rows:
        table.add_row(*row)
    return table
