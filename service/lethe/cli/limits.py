"""The command ``lethe test``: compares runs with limits and says so by its exit status."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from typer import Argument, Option

from lethe.cli.options import AsJson, write_json
from lethe.errors import InvalidSetting
from lethe.files.terminal import markup

__all__ = ["check_limits"]


def check_limits(
    runs: Annotated[
        list[Path], Argument(metavar="RUN...", help="Results: run.json in the folders of --report or a demo.")
    ],
    *,
    max_forgetting: Annotated[
        float | None,
        Option(metavar="RATIO", min=-1, max=1, help="Most that any old probe may be below its best."),
    ] = None,
    min_acc: Annotated[
        float | None, Option(metavar="RATIO", min=0, max=1, help="Least ACC, the mean accuracy of probes.")
    ] = None,
    min_bwt: Annotated[
        float | None, Option(metavar="RATIO", min=-1, max=1, help="Least BWT, below 0 if skills were lost.")
    ] = None,
    min_wc_acc: Annotated[
        float | None, Option(metavar="RATIO", min=0, max=1, help="Least WC-ACC, the worst case of accuracy.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare runs with limits, such as in a CI job before a model is deployed.

    Exit status 1 if a limit is broken, a score was not measured or a run has failed.
    """
    from lethe.observability.result import RunResult
    from lethe.report.limits import Limits, check_run

    limits = Limits(max_forgetting, min_acc, min_bwt, min_wc_acc)
    if limits == Limits():
        raise InvalidSetting("lethe test needs a limit: --max-forgetting, --min-acc, --min-bwt, --min-wc-acc")
    results = {path: RunResult.read(path) for path in runs}
    checks = {path: [*check_run(result, limits)] for path, result in results.items()}
    failed = {path: result.failure for path, result in results.items() if result.failure is not None}
    passed = not failed and all(check.passed for found in checks.values() for check in found)
    if as_json:
        rows = [
            {"run": str(path), "what": check.what, "measured": check.measured, "limit": check.limit}
            | {"at_most": check.at_most, "passed": check.passed}
            for path, found in checks.items()
            for check in found
        ]
        write_json({"passed": passed, "checks": rows, "failures": {str(p): why for p, why in failed.items()}})
    else:
        table = Table("run", "what")
        for heading in ("measured", "limit", ""):
            table.add_column(heading, justify="right")
        for path, found in checks.items():
            for check in found:
                measured = "not measured" if check.measured is None else f"{check.measured:.4f}"
                sign = "≤" if check.at_most else "≥"
                verdict = "[green]kept[/]" if check.passed else "[bold red]broken[/]"
                table.add_row(
                    markup(str(path)), markup(check.what), measured, f"{sign} {check.limit:g}", verdict
                )
        Console().print(table)
        for path, why in failed.items():
            Console(soft_wrap=True).print(f"[bold red]failed:[/] {markup(str(path))}: {markup(why)}")
    if not passed:
        raise typer.Exit(1)
