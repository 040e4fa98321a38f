"""Makes processes overwrite memory that they free, so that no record stays in unused memory.

Slots are overwritten explicitly, and so are numpy's arrays, of which numpy caches small ones. The copies
that Kafka's client, the HTTP server, the interpreter, an image decoder and torch make are freed, and freed
memory keeps its content until it is reused. glibc can overwrite it, if configured before the process starts.
"""

import ctypes
import os
import resource
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NoReturn

__all__ = [
    "core_dumps_disabled",
    "disable_core_dumps",
    "restart_with_scrubbing",
    "scrubbing_children",
    "scrubs_freed_memory",
]

SETTINGS: Final = {
    # caches per thread are not overwritten
    "GLIBC_TUNABLES": "glibc.malloc.perturb=165:glibc.malloc.tcache_count=0",
    "PYTHONMALLOC": "malloc",  # the interpreter's own allocator reuses memory without glibc
}

PR_GET_DUMPABLE: Final = 3
PR_SET_DUMPABLE: Final = 4
"""Options of Linux's prctl(2)."""


def scrubs_freed_memory() -> bool:
    """Return whether this process overwrites memory that it frees."""
    return all(os.environ.get(name) == value for name, value in SETTINGS.items())


def restart_with_scrubbing(module: str, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by ``python -m module arguments``, overwriting memory that is freed."""
    for output in (sys.stdout, sys.stderr):
        output.flush()
    command = [sys.executable, "-P", "-m", module, *arguments]  # -P: no module of the working folder
    os.execve(sys.executable, command, os.environ | SETTINGS)  # noqa: S606 - this program


@contextmanager
def scrubbing_children() -> Iterator[None]:
    """Make processes that are started within overwrite memory that they free; needs glibc."""
    before = {name: os.environ.get(name) for name in SETTINGS}
    os.environ.update(SETTINGS)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def disable_core_dumps() -> None:
    """Disable core dumps of this process, and access to its memory except by root.

    The size limit of core files is inherited by child processes, but does not apply to a core that is piped
    to a program. Linux's PR_SET_DUMPABLE covers that, but is not inherited: each process has to call this.
    Then only root (CAP_SYS_PTRACE) can read /proc/PID/mem or trace the process.
    """
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))
    if sys.platform == "linux":
        _prctl(PR_SET_DUMPABLE, 0)


def core_dumps_disabled() -> bool:
    """Return whether `disable_core_dumps` was called in this process."""
    if sys.platform == "linux":
        return _prctl(PR_GET_DUMPABLE) == 0
    return resource.getrlimit(resource.RLIMIT_CORE)[0] == 0


def _prctl(option: int, value: int = 0) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(libc.prctl(option, value, 0, 0, 0))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")
    return result
