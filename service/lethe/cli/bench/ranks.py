"""The command ``lethe bench ranks``."""

from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from rich.table import Table
from typer import Option

from lethe.cli.bench.output import progress
from lethe.cli.options import AsJson, Broker, Learner, write_json

if TYPE_CHECKING:
    from lethe.experiments.bench.ranks.run import RanksBench
    from lethe.experiments.bench.ranks.speeds import RankSpeeds

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
    turns: Annotated[int, Option(metavar="N", min=1, help="Turns of each side.")] = 5,
    warm: Annotated[
        int, Option("--warm-up", metavar="N", min=1, help="Samples before each measurement.")
    ] = 8192,
    samples: Annotated[int, Option(metavar="N", min=1, help="Samples in each measurement.")] = 32768,
    evaluations: Annotated[
        bool, Option("--evaluations", help="Evaluate two probes meanwhile, as often as by default.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare ranks that learn one model together with one service, and with services that learn apart.

    Each side has as many cores as learners, of one thread each. The sides take turns; values are medians.
    """
    from lethe.experiments.bench.ranks.run import RanksBench, bench_ranks
    from lethe.experiments.bench.ranks.speeds import ALONE, TOGETHER, RankSpeeds

    bench = RanksBench(learner, ranks, batch_size, broker, turns, warm, samples, evaluations)
    bench.check()  # before the progress bar appears
    speeds = RankSpeeds()
    with progress() as bar:
        task = bar.add_task("filling the topic", total=turns)
        for speeds in bench_ranks(bench):
            bar.update(task, advance=1, description=f"ratio so far {speeds.ratio(TOGETHER, ALONE):.2f}")
    if as_json:
        write_json(document(bench, speeds))
    else:
        Console().print(table(bench, speeds))


def document(bench: "RanksBench", speeds: "RankSpeeds") -> dict[str, object]:
    """Return the result as plain JSON: samples per second, seconds of processor time a sample, ratios."""
    from lethe.experiments.bench.ranks.speeds import ALONE, APART, SIDES, TOGETHER

    return {
        "learner": bench.learner,
        "ranks": bench.ranks,
        "batch_size": bench.batch,
        "samples": bench.samples,
        "turns": bench.turns,
        "evaluations": bench.evaluates,
        "confined": speeds.confined,
        **{side: speeds.samples_per_second(side) for side in SIDES},
        "ratio": speeds.ratio(TOGETHER, ALONE),
        "ratio_to_apart": speeds.ratio(TOGETHER, APART),
        "quartiles": speeds.quartiles(TOGETHER, ALONE),
        "quartiles_to_apart": speeds.quartiles(TOGETHER, APART),
        "cpu_seconds": {side: speeds.cpu_seconds(side) for side in SIDES},
        "cpu_ratio": speeds.cpu_ratio(TOGETHER, ALONE),
    }


def table(bench: "RanksBench", speeds: "RankSpeeds") -> Table:
    """Return the result as a table."""
    from lethe.experiments.bench.ranks.speeds import ALONE, APART, SIDES

    title = f"{bench.learner}: {bench.ranks} ranks, batches of {bench.batch:,}, {bench.turns} turns"
    caption = "one core a learner" if speeds.confined else "not confined to one core a learner"
    table = Table("side", title=title, title_justify="left", caption=caption, caption_justify="left")
    for heading in ("samples/s", "to alone", "quartiles", "to apart", "CPU ms a sample", "to alone"):
        table.add_column(heading, justify="right")
    for side in SIDES:
        lower, upper = speeds.quartiles(side, ALONE)
        table.add_row(
            side,
            f"{speeds.samples_per_second(side):,.0f}",
            f"{speeds.ratio(side, ALONE):.3f}",
            f"{lower:.2f} … {upper:.2f}",
            f"{speeds.ratio(side, APART):.3f}",
            f"{1000 * speeds.cpu_seconds(side):.4f}",
            f"{speeds.cpu_ratio(side, ALONE):.3f}",
        )
    return table
