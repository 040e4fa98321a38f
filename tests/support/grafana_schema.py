"""Checks a dashboard against Grafana's schema, as in grafana-foundation-sdk: fields, types and choices.

The library's classes are generated from that schema. It reads any JSON into them without looking at a
value, so what their annotations promise is compared here with what was read.
"""

import sys
from collections.abc import Iterator
from enum import Enum
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

__all__ = ["misfits"]

register_default_plugins()  # the options of each kind of panel have a schema of their own


def misfits(board: dict[str, Any]) -> list[str]:
    """Return each value that is of another type than its field, or none of its choices, with its place."""
    return list(_misfits(Dashboard.from_json(board), Dashboard, "dashboard"))


def _misfits(value: object, hint: Any, place: str) -> Iterator[str]:
    choices = _choices(hint)
    if object in choices or Any in choices:  # any value, unless the library is more specific
        choices = [type(value)]
    reasons = [list(_misfits_one(value, choice, place)) for choice in choices]
    if all(reasons):
        yield from min(reasons, key=len)


def _choices(hint: Any) -> list[Any]:
    return list(get_args(hint)) if get_origin(hint) in {Union, UnionType} else [hint]


def _misfits_one(value: Any, hint: Any, place: str) -> Iterator[str]:
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if kind is float and isinstance(value, int):
        kind = int  # JSON has one kind of number
    if isinstance(value, dict) and hasattr(kind, "from_json"):
        value = kind.from_json(value)  # transformations, which the library leaves as they are
    if kind is Literal or issubclass(kind, Enum):
        if value not in (inner or [choice.value for choice in kind]):
            yield f"{place}: {value!r} is none of its choices"
    elif not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        yield f"{place}: {value!r} is no {kind.__name__}"
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _misfits(item, inner[0] if inner else object, f"{place}[{index}]")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _misfits(item, inner[1] if inner else object, f"{place}.{name}")
    elif hasattr(value, "from_json"):
        # what was read may know more than the field asks for: a query to Prometheus, not just any query
        names = vars(sys.modules[type(value).__module__])
        for name, field in get_type_hints(type(value), names).items():
            yield from _misfits(getattr(value, name), field, f"{place}.{name}")
