"""The command ``lethe audit``: a verdict on a ledger that fits on one page."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from typer import Argument, Option

__all__ = ["audit_ledger"]


def audit_ledger(
    ledger: Annotated[Path, Argument(help="A ledger file, as in the --state folder of lethe run.")],
    policy: Annotated[Path | None, Option(help="The policy that it is held against.")] = None,
    bootstrap_servers: Annotated[
        str | None, Option(metavar="HOST:PORT", help="Ask this cluster if it still serves what was purged.")
    ] = None,
    as_json: Annotated[bool, Option("--json", help="Print one JSON document, and nothing else.")] = False,
) -> None:
    """Judge whether every record was learned once and discarded as promised; exit status 1 if not."""
    from service.privacy.audit import audit
    from service.privacy.evidence import newest_mark, served_from
    from service.privacy.ledger import read_entries
    from service.privacy.policy import load_policy

    verdict = audit(
        read_entries(ledger),
        load_policy(policy) if policy else None,
        newest_mark(ledger.parent),
        served_from(ledger, bootstrap_servers) if bootstrap_servers else None,
    )
    if as_json:
        json.dump(asdict(verdict) | {"passed": verdict.passed}, sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        table = Table("question", "answer", "", title=str(ledger), title_justify="left")
        for finding in verdict.findings:
            mark = "[green]good[/]" if finding.passed else "[red]BAD[/]"
            table.add_row(finding.question, finding.answer, mark)
        Console().print(table)
        Console().print("[green]Verdict: pass[/]" if verdict.passed else "[red]Verdict: fail[/]")
    if not verdict.passed:
        raise typer.Exit(1)
