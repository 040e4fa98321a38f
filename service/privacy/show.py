"""A verdict on one page: in the terminal, as JSON, and as HTML for the file of a data-protection officer."""

import time
from dataclasses import asdict
from html import escape
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.markup import escape as plain
from rich.table import Table

from service.privacy.audit import Verdict
from service.privacy.policy import Policy

__all__ = ["as_json", "as_page", "as_table"]

SECURITY: Final = "default-src 'none'; style-src 'unsafe-inline'"
STYLE: Final = """
:root { color-scheme: light dark; --good: #1a7f37; --bad: #c0232c; }
body { font: 16px/1.5 system-ui, "Noto Sans", "DejaVu Sans", sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; font-weight: 650; padding: 1.5rem 0 0.5rem; }
th, td { text-align: left; vertical-align: top; padding: 0.45rem 0.8rem 0.45rem 0; border-top: 1px solid #8886; overflow-wrap: anywhere; }
th { font-weight: 500; width: 24rem; }
.good { color: var(--good); } .bad { color: var(--bad); font-weight: 650; }
@media (prefers-color-scheme: dark) { :root { --good: #56d364; --bad: #ff7b72; } }
"""  # noqa: E501 - a style sheet


def as_table(verdict: Verdict, title: str) -> RenderableType:
    """Return the verdict for a terminal."""
    table = Table("question", "answer", "", title=plain(title), title_justify="left")
    for finding in verdict.findings:
        mark = "[green]good[/]" if finding.passed else "[red]BAD[/]"
        table.add_row(finding.question, plain(finding.answer), mark)
    return Group(table, "[green]Verdict: pass[/]" if verdict.passed else "[red]Verdict: fail[/]")


def as_json(verdict: Verdict) -> dict[str, Any]:
    """Return the verdict as plain JSON."""
    return asdict(verdict) | {"passed": verdict.passed}


def as_page(verdict: Verdict, ledger: str, policy: Policy | None) -> str:
    """Return the verdict as an HTML document that needs nothing else, dated now."""
    word = "pass" if verdict.passed else "fail"
    style = "good" if verdict.passed else "bad"
    about = {
        "Ledger": ledger,
        "Judged at": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "Receipts": f"{verdict.receipts:,}",
        "Samples learned": f"{verdict.learned:,}",
        "Policy": "none given" if policy is None else f"{policy.name}, SHA-256 {policy.digest}",
    }
    findings = "".join(
        f'<tr><th scope="row">{escape(finding.question)}</th><td>{escape(finding.answer)}</td>'
        f'<td class="{"good" if finding.passed else "bad"}">{"good" if finding.passed else "BAD"}</td></tr>\n'
        for finding in verdict.findings
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta http-equiv="Content-Security-Policy" content="{SECURITY}"/>
<title>Audit: {word}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>Verdict: <span class="{style}">{word}</span></h1>
<table><caption>What was judged</caption>
{_rows(about)}</table>
<table><caption>Findings</caption>
{findings}</table>
<table><caption>What the policy allows</caption>
{_rows({} if policy is None else _allowed(policy))}</table>
</body>
</html>
"""


def _rows(pairs: dict[str, str]) -> str:
    return "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>\n'
        for name, value in pairs.items()
    )


def _allowed(policy: Policy) -> dict[str, str]:
    return {
        name.replace("_", " "): "not limited" if value is None else str(value)
        for name, value in policy.model_dump(mode="json").items()
        if name != "name"
    }
