"""Processes that start in no time: forked from one that has imported the service already."""

import multiprocessing
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from typing import Final

__all__ = ["fork_server", "forked", "share"]

PRELOADED: Final = [
    "service.compose",
    "torch._dynamo",  # optimizers import it
    "pytest",  # a child imports what its parent was started with, which takes longer than the rest
    "tests.faults.test_kills",  # where what is forked there stands, with all of the harness
]


def forked() -> ForkServerContext:
    """The context in which tests start what they are going to kill."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def fork_server() -> str:
    """Where the server is from which this process forks; it is started if need be."""
    forked()
    forkserver.ensure_running()
    address: str = vars(forkserver._forkserver)["_forkserver_address"]
    return address


def share(address: str) -> ForkServerContext:
    """Let a forked process fork its own children from the same server.

    Python promises as much, and then starts another, which imports everything anew.
    """
    server = _Shared()
    server._forkserver_address = address
    server._forkserver_alive_fd = vars(forkserver._forkserver)["_forkserver_alive_fd"]
    forkserver.connect_to_new_process = server.connect_to_new_process
    return forked()


class _Shared(forkserver.ForkServer):
    """A server that somebody else keeps running."""

    _forkserver_address: str
    _forkserver_alive_fd: int

    def ensure_running(self) -> None:
        """Leave that to its owner."""
