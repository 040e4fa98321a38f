"""Functions of several operations of torch that run without the interpreter's lock.

Each operation that Python calls releases the lock and takes it again. Threads that share short operations
then wait for the lock more than they compute. TorchScript runs a whole function without it.

torch has declared TorchScript deprecated. What it names instead needs a C++ compiler on the machine
(`torch.compile`) or runs in the interpreter (`torch.export`). With a torch that has no TorchScript the
functions run as they are, to the same results.
"""

import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

__all__ = ["scripted"]

P = ParamSpec("P")
R = TypeVar("R")


def scripted(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that does the same without the lock: a decorator.

    The function takes and returns tensors and numbers and is written in what TorchScript knows of Python;
    whatever it calls is an operation of torch or scripted. Raises RuntimeError if it is not.
    """
    script: Callable[[Callable[P, R]], Callable[P, R]] | None = getattr(torch.jit, "script", None)
    if script is None:
        return function
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return script(function)
