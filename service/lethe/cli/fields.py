"""Describes the fields of a pydantic model for a reader: type, default and meaning."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

__all__ = ["default_of", "first_sentence", "meaning_of", "summary_of", "type_of"]

_BOUNDS: Final = {Gt: (">", "gt"), Ge: ("≥", "ge"), Lt: ("<", "lt"), Le: ("≤", "le")}
_NAMES: Final[dict[Any, str]] = {
    bool: "true or false",
    int: "integer",
    float: "number",
    str: "text",
    Path: "path",
}


def type_of(field: FieldInfo) -> str:
    """Return a field's type and bounds, such as ``integer, ≥ 1, ≤ 65535``."""
    bounds = [
        f"{sign} {getattr(bound, attribute)}"
        for bound in field.metadata
        for kind, (sign, attribute) in _BOUNDS.items()
        if isinstance(bound, kind)
    ]
    return ", ".join([_name(field.annotation), *bounds])


def _name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin in {Union, UnionType}:
        return " | ".join(_name(kind) for kind in arguments if kind is not NoneType)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "JSON object"
    return _NAMES.get(annotation) or str(getattr(annotation, "__name__", annotation))


def default_of(field: FieldInfo) -> str:
    """Return a field's default as it is typed, empty if there is none."""
    default = field.get_default(call_default_factory=True)
    if default in (None, "", {}):
        return ""
    return json.dumps(default) if isinstance(default, bool | Mapping) else str(default)


def meaning_of(field: FieldInfo) -> str:
    """Return a field's docstring on one line."""
    return " ".join((field.description or "").split())


def summary_of(kind: type[BaseModel]) -> str:
    """Return the first paragraph of a model's docstring on one line."""
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())


def first_sentence(text: str) -> str:
    """Return ``text`` up to its first full stop.

    >>> first_sentence("Port to listen on; 0 picks a free one. The log names it.")
    'Port to listen on; 0 picks a free one.'
    """
    return re.split(r"(?<=\.)\s", text, maxsplit=1)[0]
