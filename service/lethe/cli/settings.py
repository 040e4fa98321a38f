"""The command ``lethe settings``: every setting with flag, variable, type, default and meaning."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from typer import Argument, Option

from lethe.cli.fields import default_of, meaning_of, summary_of, type_of
from lethe.cli.flags import flag
from lethe.errors import InvalidSetting
from lethe.files.terminal import markup
from lethe.settings import Settings, variable

__all__ = ["section_markdown", "settings"]


def settings(
    section: Annotated[str | None, Argument(help="Show one section, such as stream.")] = None,
    markdown: Annotated[bool, Option("--markdown", help="Print Markdown instead of tables.")] = False,
) -> None:
    """List all settings of lethe run: flag, variable, type, default and meaning.

    A flag takes precedence over its variable, and a variable over the default.
    """
    sections = Settings.sections()
    if section is not None and section not in sections:
        raise InvalidSetting(f"section {section!r} does not exist: there are {', '.join(sections)}")
    for name in sections if section is None else [section]:
        if markdown:
            typer.echo(section_markdown(name))
        else:
            Console().print(_table(name))


def _table(section: str) -> Table:
    title = f"{section}: {summary_of(Settings.sections()[section])}"
    table = Table(title=title, title_justify="left", show_header=False, show_lines=True, expand=True)
    table.add_column("setting", overflow="fold", width=36)
    table.add_column("meaning", overflow="fold", ratio=1)
    for name, field in Settings.sections()[section].model_fields.items():
        default = default_of(field)
        lines = [f"[bold]{flag(section, name)}[/]", variable(section, name), markup(type_of(field))]
        if default:
            lines.append(markup(f"default {default}"))
        table.add_row("\n".join(lines), markup(meaning_of(field)))
    return table


def section_markdown(section: str) -> str:
    """Return a section of the settings as a Markdown heading and table."""
    kind = Settings.sections()[section]
    lines = [
        f"## {section}",
        "",
        summary_of(kind),
        "",
        "| Flag | Variable | Type | Default | Meaning |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, field in kind.model_fields.items():
        default = default_of(field)
        cells = [
            f"`{flag(section, name)}`",
            f"`{variable(section, name)}`",
            _cell(type_of(field)),
            f"`{_cell(default)}`" if default else "",
            _cell(meaning_of(field)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    """Return ``text`` as one cell of a Markdown table."""
    return text.replace("|", "\\|").replace("<", "&lt;")
