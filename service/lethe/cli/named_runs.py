"""Runs that a command line names: ``[NAME=]PATH`` of a run.json."""

from collections.abc import Iterable
from pathlib import Path

from lethe.errors import InvalidSetting

__all__ = ["named_runs"]


def named_runs(runs: Iterable[str]) -> dict[str, Path]:
    """Return the path of each run by its name; the name of its folder is the default.

    Raises InvalidSetting for two runs of one name.
    """
    paths: dict[str, Path] = {}
    for run in runs:
        name, equals, path = run.rpartition("=")
        if not equals:
            name = Path(path).resolve().parent.name
        if name in paths:
            raise InvalidSetting(f"two models are called {name}: write NAME={path}")
        paths[name] = Path(path)
    return paths
