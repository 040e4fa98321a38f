"""Prints deploy/constraints.txt: the packages installed for Lethe, with the hash of every file.

`make constraints` runs it in a separate environment of the oldest supported Python. Packages of the service
come first, those of documentation and tests after the line `# tests`. Hashes are those of the package index,
from uv; pip rejects files with other hashes.
"""

import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT: Final = "lethe"
EXTRAS: Final = ("docs", "embedded", "onnx", "pandas", "river", "test")
PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
LINUX: Final = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
MACOS: Final = {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"}
ONLY_LINUX: Final = "sys_platform == 'linux'"
ONLY_MACOS: Final = {"appnope": "appnope==0.1.4; sys_platform == 'darwin'"}
"""Dependencies on macOS alone, which cannot be installed here; of tests only."""
TESTS: Final = "# tests"


def needed(extras: Sequence[str], platform: Mapping[str, str]) -> set[str]:
    """Return the canonical names of dependencies of ``PROJECT[extras]`` on ``platform`` for any Python."""
    found: set[tuple[str, str]] = set()
    waiting = [(PROJECT, extra) for extra in ("", *extras)]
    while waiting:
        name, extra = waiting.pop()
        if name in ONLY_MACOS:
            continue
        for requirement in _requirements(name, extra, platform):
            wanted = {(canonicalize_name(requirement.name), extra) for extra in ("", *requirement.extras)}
            waiting.extend(wanted - found)
            found |= wanted
    return {name for name, _ in found} - {PROJECT, *ONLY_MACOS}


def _requirements(name: str, extra: str, platform: Mapping[str, str]) -> Iterator[Requirement]:
    try:
        texts = distribution(name).requires or []
    except PackageNotFoundError:
        sys.exit(f"{name} is required on another platform but not installed here: pin it by hand")
    environments = [
        {**platform, "python_version": python, "python_full_version": f"{python}.0", "extra": extra}
        for python in PYTHONS
    ]
    for text in texts:
        requirement = Requirement(text)
        if requirement.marker is None or any(map(requirement.marker.evaluate, environments)):
            yield requirement


def pinned(names: set[str], everywhere: set[str], more: Iterable[str] = ()) -> str:
    """Return pinned requirements with hashes; those not in ``everywhere`` get a marker for Linux."""
    lines = [
        f"{name}=={distribution(name).version}" + ("" if name in everywhere else f"; {ONLY_LINUX}")
        for name in sorted(names)
    ]
    lines.extend(more)
    options = ["--universal", "--no-deps", "--no-annotate", "--no-header", "--generate-hashes"]
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", *options, "-"]
    done = subprocess.run(  # noqa: S603 - uv of this environment
        command, input="\n".join(lines), capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def main() -> None:
    """Print both parts."""
    service, everything = needed((), LINUX), needed(EXTRAS, LINUX)
    everywhere = needed(EXTRAS, MACOS)
    print(pinned(service, everywhere), end="")
    print(TESTS)
    print(pinned(everything - service, everywhere, ONLY_MACOS.values()), end="")


if __name__ == "__main__":
    main()
