"""Starts reader processes soon: they are forked from a process that has imported what they need."""

import logging
import multiprocessing
import signal
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext, SpawnContext
from typing import Final

__all__ = ["start_fork_server"]

logger = logging.getLogger("lethe")

PRELOADED: Final = [
    "__main__",  # the script lethe, which every child imports
    "lethe.cli.main",  # what that imports, also for python -m lethe
    "lethe.ingest.reader",
]


def start_fork_server() -> ForkServerContext | SpawnContext:
    """Start a process that imports while this one does, and return the context of processes forked from it.

    It ends with this process and its children. It neither reads records nor has threads. Without a folder for
    its socket, such as /tmp, a context is returned whose processes import for themselves.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    resource_tracker.ensure_running()  # first, because it lifts such a block
    # which it inherits: a terminal and a supervisor may signal every process, and this one decides
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        forkserver.ensure_running()
    except FileNotFoundError as error:
        logger.warning("reader processes start a second later: %s", error)
        return multiprocessing.get_context("spawn")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context
