"""Finds YAML files by built-in name or path, and reads them into pydantic models."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from lethe.errors import LetheError

__all__ = ["find_file", "read_model"]

M = TypeVar("M", bound=BaseModel)

_OWN_KEY: Final = re.compile(r"(\w+(?:\.\w+)*): ")
"""The key with which a message of a whole model begins."""


def find_file(name_or_path: str, shipped: Path, what: str, error: type[LetheError]) -> Path:
    """Return the file of that name in the folder ``shipped``, or the file at that path.

    Only a string with a path separator is a path, so a file in the working folder cannot shadow a built-in
    one. Raises ``error``, listing the built-in names, for any other name.
    """
    if "/" in name_or_path or os.sep in name_or_path:
        return Path(name_or_path)
    known = {path.stem: path for path in sorted(shipped.glob("*.yaml"))}
    if name_or_path not in known:
        raise error(
            f"{what} {name_or_path!r} is none of {', '.join(known)}; "
            f"give the path of a file as ./{name_or_path}"
        )
    return known[name_or_path]


def read_model(path: Path, kind: type[M], what: str, error: type[LetheError], context: object = None) -> M:
    """Read a ``kind`` from a YAML file; ``context`` is passed to its validators.

    Raises ``error`` with one line that names file, line and key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as failure:
        raise error(f"{what} {path} cannot be read: {failure.strerror}") from failure
    except UnicodeDecodeError as failure:
        raise error(f"{what} {path} is not YAML: it is not UTF-8") from failure
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as failure:
        line = "" if failure.problem_mark is None else f", line {failure.problem_mark.line + 1}"
        raise error(f"{what} {path}{line} is not YAML: {failure.problem or failure.context}") from failure
    except (yaml.YAMLError, ValueError) as failure:  # such as an impossible date
        raise error(f"{what} {path} is not YAML: {' '.join(str(failure).split())}") from failure
    except RecursionError as failure:
        raise error(f"{what} {path} is nested too deeply") from failure
    try:
        return kind.model_validate(content, context=context)
    except ValidationError as failure:
        problems = [_problem(root, fault["loc"], fault["msg"]) for fault in failure.errors()]
        raise error(f"{what} {path}, {'; '.join(problems)}") from failure


def _problem(root: yaml.Node | None, place: Sequence[int | str], message: str) -> str:
    key, reason = ".".join(map(str, place)), message.removeprefix("Value error, ")
    if not key and (named := _OWN_KEY.match(reason)):
        # what a model_validator raises is about the whole model and names its key itself
        place = [int(step) if step.isdigit() else step for step in named[1].split(".")]
    return f"line {_line(root, place)}: {key}: {reason}" if key else f"line {_line(root, place)}: {reason}"


def _line(node: yaml.Node | None, place: Sequence[int | str]) -> int:
    """Return the line number, from 1, of the key at ``place`` or of its nearest existing parent."""
    line = 0 if node is None else node.start_mark.line
    for step in place:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(step)]
            if not found:
                break
            key, node = found[-1]
            line = key.start_mark.line
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
            line = node.start_mark.line
        else:
            break
    return line + 1
