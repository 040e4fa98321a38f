"""The command ``lethe learners``: lists them, or describes one with its options."""

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from lethe.cli.fields import meaning_of, type_of
from lethe.errors import InvalidSetting
from lethe.files.terminal import markup

if TYPE_CHECKING:
    from lethe.learners.base import Learner

__all__ = ["learners"]


def learners(
    name: Annotated[str | None, typer.Argument(help="Describe this learner and its options.")] = None,
) -> None:
    """List the learners with what each retains of a sample, or describe one with its options."""
    console = Console()
    if name is None:
        _list(console)
    else:
        from lethe.learners.registry import find  # torch takes seconds to import: not for --help

        _describe(find(name), console)


def _list(console: Console) -> None:
    from lethe.learners.registry import LEARNERS, plugins

    kinds, unusable = list(LEARNERS.values()), []
    for plugin in plugins():
        try:
            kinds.append(plugin.load())
        except InvalidSetting as error:
            unusable.append(str(error))
        else:
            if plugin.name in LEARNERS:
                kinds.pop()
                unusable.append(
                    f"learner {plugin.name!r} of {plugin.distribution}: a built-in learner has that name"
                )
    table = Table("name", "retains", "batch", "evaluated every", "what it is")
    for kind in kinds:
        numbers = map(str, (kind.batch_size, kind.evaluate_every))
        table.add_row(kind.name, kind.retains.value, *numbers, kind.summary)
    console.print(table)
    for why in unusable:
        console.print(f"[bold red]not usable:[/] {markup(why)}", soft_wrap=True)


def _describe(kind: "type[Learner]", console: Console) -> None:
    from lethe.learners.capabilities import Capability

    console.print(f"[bold]{kind.name}[/]: {markup(kind.summary)} ({markup(kind.paper)})", soft_wrap=True)
    console.print(f"retains {kind.retains.value}, batch size {kind.batch_size}")
    console.print(f"evaluated every {kind.evaluate_every} samples")
    for capability in Capability:
        why_not = kind.why_not(capability)
        console.print(f"{capability}: {f'no, {why_not}' if why_not else 'yes'}", soft_wrap=True)
    table = Table("option", "type", "default", "meaning")
    for name, field in kind.Options.model_fields.items():
        default = json.dumps(field.get_default(call_default_factory=True))
        table.add_row(name, markup(type_of(field)), markup(default), markup(meaning_of(field)))
    console.print(table if kind.Options.model_fields else "it has no options")
