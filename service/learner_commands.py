"""The command ``lethe learners``: which there are, and what can be chosen about each."""

import json
from typing import TYPE_CHECKING, Annotated, Final

import typer
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.errors import InvalidSetting

if TYPE_CHECKING:
    from service.learners.base import Learner

__all__ = ["learners"]

_BOUNDS: Final = {Gt: (">", "gt"), Ge: ("≥", "ge"), Lt: ("<", "lt"), Le: ("≤", "le")}


def learners(
    name: Annotated[str | None, typer.Argument(help="Show the options of this one.")] = None,
) -> None:
    """List the learners: what each is, what it retains of a sample, where it comes from."""
    console = Console()
    if name is None:
        _list(console)
    else:
        from service.learners import find  # torch takes seconds to import: not for --help

        _describe(find(name), console)


def _list(console: Console) -> None:
    from service.learners import LEARNERS
    from service.learners.plugins import plugins

    kinds, unusable = list(LEARNERS.values()), []
    for plugin in plugins():
        try:
            kinds.append(plugin.load())
        except InvalidSetting as error:
            unusable.append(str(error))
        else:
            if plugin.name in LEARNERS:
                kinds.pop()
                unusable.append(f"learner {plugin.name!r} of {plugin.distribution}: ours goes by that name")
    table = Table("name", "retains", "batch", "what it is", "paper")
    for kind in kinds:
        table.add_row(kind.name, kind.retains.value, str(kind.batch_size), kind.summary, kind.paper)
    console.print(table)
    for why in unusable:
        console.print(f"[bold red]not usable:[/] {escape(why)}", soft_wrap=True)


def _describe(kind: "type[Learner]", console: Console) -> None:
    from service.learners.unlearning import Unlearns

    console.print(f"[bold]{kind.name}[/]: {escape(kind.summary)} ({escape(kind.paper)})", soft_wrap=True)
    console.print(f"retains {kind.retains.value}, batch size {kind.batch_size}")
    forgets = "yes" if issubclass(kind, Unlearns) else f"no, {kind.why_not_unlearn}"
    console.print(f"forgets a sample on demand: {forgets}", soft_wrap=True)
    table = Table("option", "type", "default", "what it does")
    for name, field in kind.Options.model_fields.items():
        default = json.dumps(field.get_default(call_default_factory=True))
        about = " ".join((field.description or "").split())
        table.add_row(name, escape(_type(field)), escape(default), escape(about))
    console.print(table if kind.Options.model_fields else "it has no options")


def _type(field: FieldInfo) -> str:
    """Return a field's type and bounds as a person writes them."""
    annotation = field.annotation
    name = annotation.__name__ if type(annotation) is type else str(annotation).replace("typing.", "")
    bounds = [
        f"{sign} {getattr(bound, attribute)}"
        for bound in field.metadata
        for kind, (sign, attribute) in _BOUNDS.items()
        if isinstance(bound, kind)
    ]
    return " ".join([name, ", ".join(bounds)]).strip()
