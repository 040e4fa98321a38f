"""Processes that start in no time: forked from one that has imported the service already."""

import multiprocessing
from multiprocessing.context import ForkServerContext

__all__ = ["forked"]


def forked() -> ForkServerContext:
    """The context in which tests start what they are going to kill."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["service.compose"])
    return context
