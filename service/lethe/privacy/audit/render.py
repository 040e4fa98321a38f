"""Renders the verdict of an audit: for the terminal, as JSON and as an HTML page."""

import time
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from lethe.files.html.templates import SELF_CONTAINED, render
from lethe.files.terminal import markup
from lethe.privacy.audit.verify import Verdict
from lethe.privacy.policy import Policy

__all__ = ["as_json", "as_page", "as_table"]


def as_table(verdict: Verdict, title: str) -> RenderableType:
    """Return the verdict for a terminal."""
    table = Table("question", "answer", "", title=markup(title), title_justify="left")
    for finding in verdict.findings:
        mark = "[green]pass[/]" if finding.passed else "[red]FAIL[/]"
        table.add_row(finding.question, markup(finding.answer), mark)
    return Group(table, "[green]Verdict: pass[/]" if verdict.passed else "[red]Verdict: fail[/]")


def as_json(verdict: Verdict) -> dict[str, Any]:
    """Return the verdict as a JSON object."""
    return asdict(verdict) | {"passed": verdict.passed}


def as_page(verdict: Verdict, ledger: str, policy: Policy | None) -> str:
    """Return the verdict as an HTML document that fetches nothing, dated with the current time."""
    return render(
        "privacy/audit/audit.html.jinja",
        security_policy=SELF_CONTAINED,
        verdict=verdict,
        subject={
            "Ledger": ledger,
            "Time of the audit": time.strftime("%Y-%m-%d %H:%M:%S %z"),
            "Receipts": f"{verdict.receipts:,}",
            "Samples learned": f"{verdict.learned:,}",
            "Policy": "none given" if policy is None else f"{policy.name}, SHA-256 {policy.digest}",
        },
        limits={} if policy is None else _limits(policy),
    )


def _limits(policy: Policy) -> dict[str, str]:
    return {
        name.replace("_", " "): _limit(value)
        for name, value in policy.model_dump(mode="json").items()
        if name != "name"
    }


def _limit(value: object) -> str:
    match value:
        case None:
            return "not limited"
        case bool():
            return "allowed" if value else "not allowed"
        case dict():
            return ", ".join(f"{name.replace('_', ' ')}: {_limit(part)}" for name, part in value.items())
        case list():
            return ", ".join(map(_limit, value)) or "none"
        case _:
            return str(value)
