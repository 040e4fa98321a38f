"""The constraints name every needed package with version and hashes, and no other."""

import re
import tomllib
from importlib.metadata import version
from typing import Any, NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.constraints import EXTRAS, LINUX, MACOS, ONLY_MACOS, TESTS, needed
from docs.modules import ROOT

TEXT = (ROOT / "deploy" / "constraints.txt").read_text()
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


class Pin(NamedTuple):
    version: str
    marker: str
    hashes: list[str]


def pins(text: str) -> dict[str, Pin]:
    """Every package of a part of the file; fails for a line of another form."""
    found: dict[str, Pin] = {}
    for entry in text.replace("\\\n", " ").splitlines():
        parts = re.fullmatch(
            r"([a-z0-9.-]+)==([^ ;]+)(?: ; ([^-]+?))?((?: +--hash=sha256:[0-9a-f]{64})+)", entry
        )
        assert parts is not None, entry
        found[canonicalize_name(parts[1])] = Pin(parts[2], parts[3] or "", parts[4].split())
    return found


SERVICE, ALSO_TESTS = map(pins, TEXT.split(f"{TESTS}\n"))
EVERYWHERE = SERVICE | ALSO_TESTS
ALL = {name: pin for name, pin in EVERYWHERE.items() if name not in ONLY_MACOS}


def test_it_contains_no_address() -> None:
    assert "://" not in TEXT
    assert "index" not in TEXT


def test_it_lists_exactly_the_required_packages() -> None:
    assert SERVICE.keys() == needed((), LINUX)
    assert ALL.keys() == needed(EXTRAS, LINUX)


def test_packages_for_linux_alone_are_marked() -> None:
    marked = {name for name, pin in ALL.items() if pin.marker}
    assert marked == ALL.keys() - needed(EXTRAS, MACOS)
    assert "triton" in marked
    assert {pin.marker for pin in ALL.values()} == {"", "sys_platform == 'linux'"}


def test_packages_for_macos_alone_are_as_written() -> None:
    only = {name: EVERYWHERE[name] for name in EVERYWHERE.keys() - ALL.keys()}
    assert {name: f"{name}=={pin.version}; {pin.marker}" for name, pin in only.items()} == ONLY_MACOS
    assert not only.keys() & SERVICE.keys()


@pytest.mark.parametrize("name", sorted(ALL))
def test_the_installed_versions_are_the_listed_ones(name: str) -> None:
    assert version(name) == ALL[name].version


def test_it_satisfies_the_projects_requirements() -> None:
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *(text for extra in EXTRAS for text in extras[extra])]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(ALL[canonicalize_name(requirement.name)].version), text


def test_what_builds_the_project_is_pinned_to_the_same_version() -> None:
    (requirement,) = PROJECT["build-system"]["requires"]
    assert requirement == f"setuptools=={SERVICE['setuptools'].version}"


@pytest.mark.parametrize("place", ["Makefile", "deploy/Dockerfile"])
def test_nothing_else_is_installed_without_its_hash(place: str) -> None:
    text = (ROOT / place).read_text().replace("$(HASHED)", "--require-hashes")
    installs = [
        line for line in text.splitlines() if re.search(r"(pip|INSTALL\)).*install|\$\(INSTALL\)", line)
    ]
    ours = [line for line in installs if "constraints/bin" not in line and ".venv-peers" not in line]
    ours = [line for line in ours if not line.startswith("INSTALL")]
    assert len(ours) == 2
    assert all("--require-hashes" in line or "--no-deps --no-build-isolation" in line for line in ours)
