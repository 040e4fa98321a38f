"""Flags made from settings: one option for each, with its docstring as help."""

import inspect
import json
from collections.abc import Callable
from typing import Annotated, Any, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from service.errors import InvalidSetting
from service.settings import Settings, variable

__all__ = ["read_pairs", "with_settings"]


def with_settings(command: Callable[[Settings], None]) -> Callable[..., None]:
    """Return ``command`` as a Typer command with a flag for every setting.

    The command gets the settings in force; it raises InvalidSetting for bad ones.
    """
    leaves = Settings.leaves()

    def run(**given: Any) -> None:
        flags: dict[str, dict[str, Any]] = {}
        for section, name in leaves:
            value = given[f"{section}_{name}"]
            if value is not None:
                pairs = _metavar(leaves[section, name]) is not None
                flags.setdefault(section, {})[name] = (
                    read_pairs(f"{section}.{name}", value) if pairs else value
                )
        command(Settings.read(flags))

    parameters = [
        inspect.Parameter(
            f"{section}_{name}",
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[_type(leaf), _option(section, name, leaf)],
        )
        for (section, name), leaf in leaves.items()
    ]
    # Typer reads the signature and the annotations of what it is given
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__doc__ = command.__doc__
    return run


def _option(section: str, name: str, leaf: FieldInfo) -> Any:
    extra = leaf.json_schema_extra
    flag = extra["flag"] if isinstance(extra, dict) and "flag" in extra else f"--{section}-{name}"
    flag = str(flag).replace("_", "-")
    default = leaf.get_default(call_default_factory=True)
    doc = " ".join((leaf.description or "").split())
    return typer.Option(
        flag,
        metavar=_metavar(leaf),
        help=f"{doc} [{variable(section, name)}{'' if default in (None, '', {}) else f'={default}'}]",
        show_default=False,
        rich_help_panel=section,
    )


def _metavar(leaf: FieldInfo) -> str | None:
    """Return NAME=VALUE for a setting that is given pair by pair."""
    extra = leaf.json_schema_extra
    return str(extra["metavar"]) if isinstance(extra, dict) and "metavar" in extra else None


def read_pairs(setting: str, pairs: list[str]) -> dict[str, Any]:
    """Return names and values; a value is JSON where it can be read as such, and text otherwise.

    Raises InvalidSetting, naming ``setting``, for what is not NAME=VALUE.
    """
    read = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise InvalidSetting(f"{setting}: {pair!r} is not NAME=VALUE")
        try:
            read[name] = json.loads(text)
        except ValueError:
            read[name] = text
    return read


def _type(leaf: FieldInfo) -> Any:
    """Return what Typer shall parse: the setting's own type, or text for what pydantic parses."""
    if _metavar(leaf) is not None:
        return list[str] | None
    annotation: Any = leaf.annotation
    kinds = [kind for kind in get_args(annotation) or (annotation,) if kind is not type(None)]
    if get_origin(annotation) is not None and not isinstance(kinds[0], type):
        return annotation | None  # a Literal
    kind = kinds[0] if len(kinds) == 1 else str
    return kind | None
