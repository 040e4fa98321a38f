"""The command ``lethe bench ranks``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from rich.table import Table
from typer import Option

from lethe.cli.bench.output import progress
from lethe.cli.options import AsJson, Broker, Learner, Turns, write_json
from lethe.errors import InvalidSetting

if TYPE_CHECKING:
    from lethe.experiments.bench.ranks.result import RanksResult
    from lethe.experiments.bench.ranks.simulation import Simulated

__all__ = ["ranks"]


def ranks(
    *,
    learner: Learner = "ridge",
    ranks: Annotated[int, Option(metavar="N", min=2, help="Ranks, and services that learn apart.")] = 2,
    batch_size: Annotated[
        int | None,
        Option(metavar="N", min=1, help="Samples of each rank in a round. Default: the learner's choice."),
    ] = None,
    broker: Broker = None,
    turns: Turns = 5,
    warm: Annotated[
        int, Option("--warm-up", metavar="N", min=1, help="Samples before each measurement.")
    ] = 8192,
    samples: Annotated[int, Option(metavar="N", min=1, help="Samples in each measurement.")] = 32768,
    evaluations: Annotated[
        bool, Option("--evaluations", help="Evaluate two probes meanwhile, as often as by default.")
    ] = False,
    simulate: Annotated[
        int | None,
        Option(metavar="N", min=2, help="Simulate up to so many ranks, from what the rounds here cost."),
    ] = None,
    link_gbit: Annotated[
        float, Option(metavar="G", min=0.01, help="Of the simulation: the link of each rank, in Gbit/s.")
    ] = 10.0,
    slowest: Annotated[
        float, Option(metavar="F", min=1, help="Of the simulation: one rank takes F times as long.")
    ] = 1.0,
    html: Annotated[
        Path | None, Option(metavar="FILE", help="Of the simulation: write plots to this file.")
    ] = None,
    measured: Annotated[
        Path | None,
        Option(metavar="FILE", help="A --json file of an earlier run, instead of measuring again."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare ranks that learn one model together with one service, and with services that learn apart.

    Each side has as many cores as learners, of one thread each. The sides take turns; values are medians.
    """
    from lethe.experiments.bench.ranks.result import RanksResult
    from lethe.experiments.bench.ranks.run import RanksBench, bench_ranks
    from lethe.experiments.bench.ranks.simulation import Link, simulate_up_to
    from lethe.experiments.bench.ranks.speeds import ALONE, TOGETHER, RankSpeeds

    if html is not None and simulate is None:
        raise InvalidSetting("--html draws a simulation: say with --simulate of how many ranks")
    if measured is not None:
        found = RanksResult.read(measured)
    else:
        bench = RanksBench(learner, ranks, batch_size, broker, turns, warm, samples, evaluations)
        bench.check()  # before the progress bar appears
        speeds = RankSpeeds()
        with progress() as bar:
            task = bar.add_task("filling the topic", total=turns)
            for speeds in bench_ranks(bench):
                ratio = speeds.ratio(TOGETHER, ALONE)
                bar.update(task, advance=1, description=f"ratio so far {ratio:.2f}")
        found = RanksResult.of(bench, speeds)
    link = Link(link_gbit)
    simulated = [] if simulate is None else simulate_up_to(simulate, found.fit(), link, slowest)
    title = f"{found.learner} with {link_gbit:g} Gbit/s, simulated"
    if html is not None:
        from lethe.experiments.bench.ranks.page import write_page

        write_page(simulated, title, html)
    if as_json:
        write_json(found.model_dump() | ({"simulated": _document(simulated)} if simulated else {}))
        return
    Console().print(table(found))
    if simulated:
        Console().print(simulated_table(simulated, title))


def table(found: "RanksResult") -> Table:
    """Return what was measured as a table."""
    from lethe.experiments.bench.ranks.speeds import ALONE, SIDES

    title = f"{found.learner}: {found.ranks} ranks, batches of {found.batch_size:,}, {found.turns} turns"
    caption = "one core a learner" if found.confined else "not confined to one core a learner"
    table = Table("side", title=title, title_justify="left", caption=caption, caption_justify="left")
    for heading in ("samples/s", "to alone", "CPU ms a sample", "to alone"):
        table.add_column(heading, justify="right")
    for side in SIDES:
        speed, cpu = found.speed(side), found.cpu_seconds[side]
        table.add_row(
            side,
            f"{speed:,.0f}",
            f"{speed / found.alone:.3f}",
            f"{1000 * cpu:.4f}",
            f"{cpu / found.cpu_seconds[ALONE]:.3f}",
        )
    lower, upper = found.quartiles
    table.add_row("together / alone", f"{found.ratio:.3f}", f"{lower:.2f} … {upper:.2f}", "", "")
    lower, upper = found.quartiles_to_apart
    table.add_row("together / apart", f"{found.ratio_to_apart:.3f}", f"{lower:.2f} … {upper:.2f}", "", "")
    return table


def simulated_table(simulated: "list[Simulated]", title: str) -> Table:
    """Return the simulation as a table: speed, efficiency, and what the time is spent on."""
    from lethe.experiments.bench.ranks.simulation import widest

    limits = ", ".join(f"{share:.0%} up to {widest(simulated, share):,}" for share in (0.9, 0.5))
    table = Table("ranks", title=title, title_justify="left", caption=f"efficient: {limits} ranks")
    for heading in ("samples/s", "efficiency", *simulated[0].shares):
        table.add_column(heading, justify="right")
    for one in simulated:
        shares = [f"{share:.0%}" for share in one.shares.values()]
        table.add_row(f"{one.ranks:,}", f"{one.samples_per_second:,.0f}", f"{one.efficiency:.2f}", *shares)
    return table


def _document(simulated: "list[Simulated]") -> list[dict[str, object]]:
    return [
        {
            "ranks": one.ranks,
            "samples_per_second": one.samples_per_second,
            "efficiency": one.efficiency,
            "shares": dict(one.shares),
        }
        for one in simulated
    ]
