"""Every module opens with a sentence, and lists its public names."""

import ast
import importlib

import pytest

from docs.modules import MODULES, OURS, Module, of, within

CODE = of("lethe", "lethe_producers")
PUBLIC = [module for module in CODE if not module.name.endswith("__main__")]


def test_a_module_opens_with_one_sentence_on_what_it_is() -> None:
    assert [module.name for module in MODULES if not _opens_with_a_sentence(module)] == []


def _opens_with_a_sentence(module: Module) -> bool:
    said = ast.get_docstring(module.tree) or ""
    return " ".join(said.split("\n\n")[0].split()).endswith((".", ":", "…``"))


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.name)
def test_exported_names_exist_and_are_listed_once(module: Module) -> None:
    loaded = importlib.import_module(module.name)
    offered = getattr(loaded, "__all__", None)
    if offered is None:
        assert module.path.name == "__init__.py", "a module lists its names in __all__"
        assert not module.imports, "a package that imports names lists them in __all__"
        return
    assert len(offered) == len(set(offered))
    assert [name for name in offered if not hasattr(loaded, name)] == []


def test_no_module_imports_a_name_that_another_does_not_export() -> None:
    assert {f"{module.name} imports {name}" for module in CODE for name in _hidden(module)} == set()


def _hidden(module: Module) -> list[str]:
    hidden = []
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.ImportFrom) or node.module not in OURS:
            continue
        offered = getattr(importlib.import_module(node.module), "__all__", ())
        names = [alias.name for alias in node.names if alias.name not in offered]
        hidden += [f"{node.module}.{name}" for name in names if f"{node.module}.{name}" not in OURS]
    return hidden


def test_no_two_modules_import_each_other() -> None:
    edges = {
        module.name: {name for name in module.imports if name in OURS and name != module.name}
        for module in of("lethe", "lethe_producers")
    }
    assert _cycle(edges) is None


def _cycle(edges: dict[str, set[str]]) -> list[str] | None:
    """Return a chain of modules that leads back to its beginning."""
    done: set[str] = set()

    def visit(name: str, chain: list[str]) -> list[str] | None:
        if name in chain:
            return [*chain[chain.index(name) :], name]
        if name in done:
            return None
        for target in sorted(edges.get(name, ())):
            # a package's name comes along with each of its modules; that alone is no import
            if not within(name, target) and (found := visit(target, [*chain, name])):
                return found
        done.add(name)
        return None

    return next((found for name in sorted(edges) if (found := visit(name, []))), None)


def test_a_cycle_would_be_found() -> None:
    assert _cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert _cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None
