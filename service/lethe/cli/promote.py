"""The command ``lethe promote``: decides which of several models is to be served."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from rich.table import Table
from typer import Argument, Option

from lethe.cli.named_runs import named_runs
from lethe.cli.options import AsJson, write_json
from lethe.errors import InvalidSetting
from lethe.files.terminal import markup

if TYPE_CHECKING:
    from lethe.report.promotion import Comparison
    from lethe.runtime.watch.served_model import Receipt

__all__ = ["promote"]


def promote(
    runs: Annotated[
        list[str] | None,
        Argument(metavar="[NAME=]RUN...", help="run.json of each model, the champion's first."),
    ] = None,
    *,
    to: Annotated[Path, Option(metavar="FILE", help="Written for the gateway; receipts beside it.")],
    margin: Annotated[
        float, Option(min=0, max=1, help="By how much WC-ACC a challenger has to be better.")
    ] = 0.01,
    current: Annotated[
        str | None, Option(metavar="PROBE", help="The current skill. Default: the champion's latest.")
    ] = None,
    config_map: Annotated[
        str | None, Option(metavar="NAME", help="Write the manifest of a ConfigMap with this name.")
    ] = None,
    rollback: Annotated[bool, Option("--rollback", help="Serve again what was served before.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare models on the same probes, and write which one is to be served.

    A challenger is promoted if its WC-ACC is better than the champion's by the margin. Each decision has a
    receipt.
    """
    from lethe.observability.result import RunResult
    from lethe.report.promotion import Incomparable, compare
    from lethe.runtime.watch.served_model import ServedModel

    served = ServedModel(to, config_map)
    if rollback:
        if runs:
            raise InvalidSetting("--rollback compares nothing: leave the runs out")
        _show(served.roll_back(), None, as_json)
        return
    paths = named_runs(runs or [])
    results = {name: RunResult.read(path) for name, path in paths.items()}
    try:
        comparison = compare(results, margin, current)
    except Incomparable as error:
        raise InvalidSetting(str(error)) from error
    receipt = served.decide(
        (comparison.champion.name, comparison.champion.address),
        (comparison.winner.name, comparison.winner.address),
        margin,
        {candidate.name: candidate.wc_acc for candidate in comparison.candidates},
        {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in paths.items()},
    )
    _show(receipt, comparison, as_json)


def _show(receipt: "Receipt", comparison: "Comparison | None", as_json: bool) -> None:
    if as_json:
        write_json(receipt.model_dump() | {"sha256": receipt.sha256})
        return
    console = Console(soft_wrap=True)
    if comparison is not None:
        table = Table("model", "WC-ACC", *map(markup, comparison.champion.accuracy))
        for candidate in comparison.candidates:
            accuracies = [f"{accuracy:.4f}" for accuracy in candidate.accuracy.values()]
            table.add_row(markup(candidate.name), f"{candidate.wc_acc:.4f}", *accuracies)
        console.print(table)
    console.print(f"{receipt.kind}: {markup(receipt.served)} is to be served; receipt {receipt.sha256}")
