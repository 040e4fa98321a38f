"""The command ``lethe audit``: a verdict on a ledger that fits on one page."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from typer import Argument, Option

__all__ = ["audit_ledger"]


def audit_ledger(
    ledger: Annotated[Path, Argument(help="A ledger file, as in the --state folder of lethe run.")],
    policy: Annotated[
        str | None, Option(help="The policy that it is held against: a shipped one's name, or a file.")
    ] = None,
    bootstrap_servers: Annotated[
        str | None, Option(metavar="HOST:PORT", help="Ask this cluster if it still serves what was purged.")
    ] = None,
    html: Annotated[Path | None, Option(metavar="FILE", help="Write the verdict there, too.")] = None,
    as_json: Annotated[bool, Option("--json", help="Print one JSON document, and nothing else.")] = False,
) -> None:
    """Judge whether every record was learned once and discarded as promised; exit status 1 if not."""
    from service.privacy import show
    from service.privacy.audit import audit
    from service.privacy.evidence import newest_mark, served_from
    from service.privacy.ledger import read_entries
    from service.privacy.policy import load_policy
    from service.settings import Settings

    held_to = load_policy(policy) if policy else None
    served = None
    if bootstrap_servers:  # how the cluster is secured is taken from LETHE_STREAM__SECURITY, as everywhere
        stream = Settings.read({"stream": {"bootstrap_servers": bootstrap_servers}}).stream
        served = served_from(ledger, stream)
    verdict = audit(read_entries(ledger), held_to, newest_mark(ledger.parent), served)
    if html is not None:
        html.write_text(show.as_page(verdict, str(ledger), held_to), encoding="utf-8")
    if as_json:
        json.dump(show.as_json(verdict), sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        Console().print(show.as_table(verdict, str(ledger)))
    if not verdict.passed:
        raise typer.Exit(1)
