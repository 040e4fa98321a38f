"""Optional components of the machine, and the tests that need them.

A test names its needs with ``@pytest.mark.needs("kafka")``. Without the component it is
skipped, saying which and why; ``LETHE_TEST_REQUIRE=all`` (or ``kafka,kcat``) makes it fail.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from typing import Final

import pytest

from deploy.kafka.jars import NodeError, fetch, find_java
from lethe.errors import DataUnavailable, InvalidSetting
from lethe.stream.embedded_broker import EmbeddedBroker
from tests.support.boards import build_program
from tests.support.hosts import why_no_hosts
from tests.support.worker_locks import one_at_a_time

__all__ = ["COMPONENTS", "REQUIRE", "require", "required"]

REQUIRE: Final = "LETHE_TEST_REQUIRE"


def _kafka() -> str | None:
    try:
        find_java()
        fetch()
    except NodeError as error:
        return str(error)
    return None


def _embedded() -> str | None:
    try:
        EmbeddedBroker().close()
    except InvalidSetting as error:
        return str(error)
    return None


def _datasets() -> str | None:
    from lethe_producers.dataset_downloads import fetch
    from lethe_producers.datasets import DATASETS, default_root

    try:
        for name in DATASETS:
            fetch(name, default_root())
    except DataUnavailable as error:
        return str(error)
    return None


def _boards() -> str | None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "no node or no npm in PATH"
    try:
        build_program()
    except subprocess.SubprocessError as error:
        return f"{error}: {getattr(error, 'stderr', None) or ''}"
    return None


def _memory() -> str | None:
    program = "from lethe.ingest import scrubbing; scrubbing.disable_core_dumps(); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as closed:
        assert closed.stdout is not None
        closed.stdout.readline()
        try:
            with open(f"/proc/{closed.pid}/mem", "rb"):  # noqa: PTH123 - no such Path.open
                return None
        except OSError as error:
            return f"the memory of a process that a policy closed is open to root alone: {error.strerror}"
        finally:
            closed.communicate("\n")


def _programs(*names: str) -> Callable[[], str | None]:
    def missing() -> str | None:
        absent = [name for name in names if shutil.which(name) is None]
        return f"no {' and no '.join(absent)} in PATH" if absent else None

    return missing


COMPONENTS: Final[dict[str, Callable[[], str | None]]] = {
    "kafka": _kafka,
    "embedded": _embedded,
    "datasets": _datasets,
    "chromium": _programs("chromium"),
    "prometheus": _programs("prometheus", "promtool"),
    "kcat": _programs("kcat"),
    "openssl": _programs("openssl"),
    "boards": _boards,
    "memory": _memory,
    "hosts": why_no_hosts,
}
"""Functions that return why a component is missing, or None; each is called once, when needed."""


def required() -> frozenset[str]:
    """The components that `REQUIRE` names.

    Raises:
        pytest.UsageError: it names one that does not exist.
    """
    named = frozenset(part.strip() for part in os.environ.get(REQUIRE, "").split(",") if part.strip())
    if unknown := named - COMPONENTS.keys() - {"all"}:
        known = ", ".join(["all", *COMPONENTS])
        raise pytest.UsageError(f"{REQUIRE} names {', '.join(sorted(unknown))}; known are {known}")
    return frozenset(COMPONENTS) if "all" in named else named


def require(component: str) -> None:
    """Skip the running test, or fail it if `REQUIRE` demands it, if ``component`` is missing."""
    reason = _why_missing(component)
    if reason is None:
        return
    if component in required():
        pytest.fail(f"{REQUIRE} names {component}, which is missing: {reason}", pytrace=False)
    pytest.skip(f"needs {component}: {reason}")


@cache
def _why_missing(component: str) -> str | None:
    with one_at_a_time():  # it may have to be fetched
        return COMPONENTS[component]()
