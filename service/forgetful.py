"""Processes that overwrite what they free: what a record held is not left lying in unused memory.

Slots are overwritten by hand. The copies that Kafka's client, the interpreter and an image decoder
make on the way there are freed, and freed memory keeps what it held until it is used again. The C
library can be told to fill it with something else, when a process begins and only then.
"""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["forgetful", "leave_no_core"]

SETTINGS: Final = {
    # its caches of small pieces, one for each thread, would be left out
    "GLIBC_TUNABLES": "glibc.malloc.perturb=165:glibc.malloc.tcache_count=0",
    "PYTHONMALLOC": "malloc",  # the interpreter's own allocator would not ask the C library
}


@contextmanager
def forgetful() -> Iterator[None]:
    """Let processes that are started meanwhile overwrite what they free; with glibc only."""
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


def leave_no_core() -> None:
    """Let this process, and those that it starts, leave no picture of their memory when they crash."""
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))
