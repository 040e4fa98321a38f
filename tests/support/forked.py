"""Processes that start fast: forked from a server that has imported the service already."""

import multiprocessing
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from typing import Final

__all__ = ["fork_server", "forked", "share"]

PRELOADED: Final = [
    "lethe.runtime.run",
    "torch._dynamo",  # optimizers import it
    "pytest",  # a child imports its parent's main module, which takes longer than the rest
    "tests.support.faults.services",  # what is forked there, with all that it imports
    "tests.support.faults.checkpoint_steps",
]


def forked() -> ForkServerContext:
    """Return the context in which tests start processes that they kill."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def fork_server() -> str:
    """Return the address of this process's fork server; starts it if necessary."""
    forked()
    forkserver.ensure_running()
    address: str = vars(forkserver._forkserver)["_forkserver_address"]
    return address


def share(address: str) -> ForkServerContext:
    """Let a forked process fork its own children from the same server.

    Python is documented to do so, but starts another server, which imports everything again.
    """
    server = _Shared()
    server._forkserver_address = address
    server._forkserver_alive_fd = vars(forkserver._forkserver)["_forkserver_alive_fd"]
    forkserver.connect_to_new_process = server.connect_to_new_process
    return forked()


class _Shared(forkserver.ForkServer):
    """A fork server that another process owns."""

    _forkserver_address: str
    _forkserver_alive_fd: int

    def ensure_running(self) -> None:
        """Do nothing: the owner runs it."""
