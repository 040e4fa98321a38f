"""The command ``lethe audit``: verifies a ledger."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from typer import Argument, Option

from lethe.cli.options import AsJson, write_json
from lethe.errors import InvalidSetting

__all__ = ["audit"]


def audit(
    ledger: Annotated[Path, Argument(help="A ledger: ledger.jsonl in the state folder of lethe run.")],
    policy: Annotated[
        str | None,
        Option(help="Policy to verify against: lab, clinic, vault, or a file: ./NAME.yaml."),
    ] = None,
    bootstrap_servers: Annotated[
        str | None,
        Option(metavar="HOST:PORT", help="Cluster to ask whether it still serves purged records."),
    ] = None,
    head: Annotated[
        str | None, Option(metavar="SEQ:HASH", help="A head noted earlier; the ledger must contain it.")
    ] = None,
    witness: Annotated[
        str | None,
        Option(
            metavar="FILE|topic:NAME",
            help="The --witness of lethe run: the ledger must contain its heads.",
        ),
    ] = None,
    html: Annotated[Path | None, Option(metavar="FILE", help="Write the verdict to an HTML file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Verify that every record was learned once and discarded as the policy requires.

    Exit status 1 if a check fails.
    """
    from lethe.privacy.audit import render as show
    from lethe.privacy.audit.evidence import checkpoint_totals, log_starts
    from lethe.privacy.audit.heads import read_mark
    from lethe.privacy.audit.ledger import read_entries
    from lethe.privacy.audit.verify import Finding
    from lethe.privacy.audit.verify import audit as verify
    from lethe.privacy.audit.witness import read_witness
    from lethe.privacy.policy import load_policy
    from lethe.settings import TOPIC_PREFIX, Settings

    if html is not None and html.resolve() in {ledger.resolve(), Path(policy or "").resolve()}:
        raise InvalidSetting(f"--html {html} is the ledger or the policy, and would be overwritten")
    held_to = load_policy(policy) if policy else None
    noted = read_mark(head) if head else None
    if witness is not None and witness.startswith(TOPIC_PREFIX) and bootstrap_servers is None:
        raise InvalidSetting(f"--witness {witness} is a topic: name its cluster with --bootstrap-servers")
    # the cluster's security options are those of LETHE_STREAM__SECURITY
    given = {"stream": {"bootstrap_servers": bootstrap_servers}} if bootstrap_servers else {}
    stream = Settings.read(given).stream
    served = log_starts(ledger, stream) if bootstrap_servers else None
    # read before the ledger, which a live service may extend meanwhile
    witnessed = read_witness(witness, stream, ledger.parent) if witness else None
    known = checkpoint_totals(ledger.parent)
    verdict = verify(read_entries(ledger), held_to, known, served, head=noted, witnessed=witnessed)
    if held_to is not None and known is None and noted is None and witnessed is None:
        answer = "there is no checkpoint next to it, and neither --head nor --witness is given"
        unknown = Finding("Is the ledger's end known?", passed=False, answer=answer)
        verdict = replace(verdict, findings=(*verdict.findings, unknown))
    if html is not None:
        html.write_text(show.as_page(verdict, str(ledger), held_to), encoding="utf-8")
    if as_json:
        write_json(show.as_json(verdict), indent=1)
    else:
        Console().print(show.as_table(verdict, str(ledger)))
    if not verdict.passed:
        raise typer.Exit(1)
