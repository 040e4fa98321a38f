"""The command ``lethe bench decode``."""

from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from rich.table import Table
from typer import Option

from lethe.cli.bench.output import progress
from lethe.cli.options import AsJson, Broker, Turns, write_json

if TYPE_CHECKING:
    from lethe.experiments.bench.decoding import Rates

__all__ = ["decode", "sides", "table"]


def decode(
    *,
    broker: Broker = None,
    readers: Annotated[
        list[int] | None,
        Option(metavar="N", min=1, help="Readers to measure with; repeatable. Default: 1 and 2."),
    ] = None,
    turns: Turns = 3,
    images: Annotated[
        int,
        Option(metavar="N", min=64, help="Images of 224 pixels in a topic; of 28 pixels, ten times as many."),
    ] = 800,
    as_json: AsJson = False,
) -> None:
    """Measure how many images a second a reader decodes: raw, PNG and JPEG, of 28 and 224 pixels a side."""
    from lethe.experiments.bench import decoding

    counts = {28: 10 * images, 224: images}
    bench = decoding.DecodingBench(broker, sorted({*(readers or (1, 2))}), turns, counts)
    with progress() as bar:
        task = bar.add_task("filling topics", total=turns * len(counts))
        for so_far in decoding.bench_decoding(bench):
            bar.update(task, advance=1, description="reading")
            rates = so_far
    if as_json:
        write_json({"broker": broker or "embedded", "turns": turns, "sides": sides(rates)})
    else:
        Console().print(table(rates))


def sides(rates: "Rates") -> list[dict[str, object]]:
    """Return each side with its rate and its ratios."""
    return [
        {
            "image": "×".join(map(str, side.layout.shape)),
            "format": side.form,
            "readers": side.readers,
            "images_per_second": rates.mean(side),
            "to_raw": rates.to_raw(side),
            "to_fewest_readers": rates.to_fewest_readers(side),
        }
        for side in rates.turns
    ]


def table(rates: "Rates") -> Table:
    """Return the same as a table."""
    table = Table("image", "format", title="Images read and decoded", title_justify="left")
    for name in ("readers", "images/s", "to raw", "to fewest readers"):
        table.add_column(name, justify="right")
    for side in sides(rates):
        image, form, readers, rate, *ratios = side.values()
        table.add_row(
            f"{image}", f"{form}", f"{readers}", f"{rate:,.0f}", *[f"{ratio:.2f}" for ratio in ratios]
        )
    return table
