"""The Python modules of this repository, parsed but not run: their names, imports and rooms."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

__all__ = ["MODULES", "OURS", "ROOT", "Module", "floors", "imports_in", "of", "rooms", "within"]

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "service/lethe": "lethe",
    "producers/lethe_producers": "lethe_producers",
    "deploy": "deploy",
    "docs": "docs",
    "tests": "tests",
}


@dataclass(frozen=True)
class Module:
    """A Python file of the repository."""

    name: str
    path: Path

    @property
    def tree(self) -> ast.Module:
        """The parsed file."""
        return _parse(self.path)

    @property
    def imports(self) -> frozenset[str]:
        """Every module imported in the file, also lazily; ``from a import b`` counts as a and as a.b."""
        return frozenset(imports_in(ast.walk(self.tree)))

    def needs(self, prefix: str) -> bool:
        """Whether the file imports ``prefix`` or anything inside of it."""
        return any(within(name, prefix) for name in self.imports)


@cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_in(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield the modules that ``nodes`` import. Raises ValueError for a relative import."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level or node.module is None:
                raise ValueError(f"line {node.lineno}: a relative import; imports are absolute here")
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, prefix: str) -> bool:
    """Return whether a module is ``prefix`` or inside of it."""
    return name == prefix or name.startswith(f"{prefix}.")


def _name(package: str, path: Path) -> str:
    parts = (package, *path.with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = [
    Module(_name(package, path.relative_to(ROOT / folder)), path)
    for folder, package in PACKAGES.items()
    for path in sorted((ROOT / folder).rglob("*.py"))
]
OURS = {module.name for module in MODULES}


def of(*prefixes: str) -> list[Module]:
    """Return the modules within any of ``prefixes``. Raises ValueError if there are none."""
    found = [module for module in MODULES if any(within(module.name, prefix) for prefix in prefixes)]
    if not found:
        raise ValueError(f"no module is called {', '.join(prefixes)}: the rule is out of date")
    return found


def room_of(module: str) -> str | None:
    """Return the folder or file directly in ``lethe`` that a module is in; the producers are one room."""
    package, *path = module.split(".")
    if package == "lethe_producers":
        return package
    if module in {"lethe", "lethe.__main__"}:
        return None  # they only import: the public interface, and python -m lethe
    return path[0]


def rooms() -> dict[str, frozenset[str]]:
    """Return every room with the rooms that it imports."""
    found: dict[str, set[str]] = {}
    for module in of("lethe", "lethe_producers"):
        room = room_of(module.name)
        if room is not None:
            imported = {
                room_of(name)
                for name in module.imports
                if within(name, "lethe") or within(name, "lethe_producers")
            }
            found.setdefault(room, set()).update(other for other in imported if other not in {room, None})
    return {room: frozenset(imported) for room, imported in found.items()}


def floors(rooms: Mapping[str, frozenset[str]]) -> dict[str, int]:
    """Return each room's floor: one above the highest that it imports. Raises CycleError."""
    found: dict[str, int] = {}
    for room in TopologicalSorter(rooms).static_order():
        found[room] = 1 + max((found[other] for other in rooms[room]), default=-1)
    return found
