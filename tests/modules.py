"""Our own Python files, read but not run: what each is called and imports, lazy imports included."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["MODULES", "OURS", "Module", "imports_in", "of", "within"]

ROOT = Path(__file__).parents[1]
PACKAGES = ("service", "producers", "deploy", "tests")


@dataclass(frozen=True)
class Module:
    """A Python file of ours."""

    name: str
    path: Path

    @property
    def tree(self) -> ast.Module:
        return _parse(self.path)

    @property
    def imports(self) -> frozenset[str]:
        """Every module imported anywhere in the file; ``from a import b`` counts as a and as a.b."""
        return frozenset(imports_in(ast.walk(self.tree)))

    def needs(self, prefix: str) -> bool:
        """Whether the file imports ``prefix`` or anything inside of it."""
        return any(within(name, prefix) for name in self.imports)


@cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_in(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import hides where it leads"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = [
    Module(_name(path), path) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))
]
OURS = {module.name for module in MODULES}


def of(*prefixes: str) -> list[Module]:
    found = [module for module in MODULES if any(within(module.name, prefix) for prefix in prefixes)]
    assert found, f"no module is called {', '.join(prefixes)}: the rule is out of date"
    return found
