"""A parallel for-loop over threads, with dynamic scheduling.

torch divides an operation into equal parts and waits for the last one. On a machine that also does other
work, such as answering requests, each core that is busy with that delays all others. So long operations are
divided into more pieces than there are threads.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

__all__ = ["equal_length", "share", "use_one_thread"]

Piece = TypeVar("Piece")


def share(do: Callable[[Piece], object], pieces: Iterable[Piece]) -> None:
    """Call ``do`` for each of the pieces, on as many threads as torch uses in this one.

    The calls are unordered and must be independent of one another. Each runs on a single thread, so its
    result does not depend on the number of threads. Raises the exception of the first piece that failed.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        for piece in pieces:
            do(piece)
    else:
        inference = torch.is_inference_mode_enabled()  # a setting of this thread

        def do_likewise(piece: Piece) -> None:
            with torch.inference_mode(inference):
                do(piece)

        for _ in _workers(threads).map(do_likewise, pieces):
            pass


def equal_length(rows: int, most: int) -> int:
    """Return the rows of a piece, at most ``most``, so that all threads get as many pieces; ``rows`` > 0."""
    threads = torch.get_num_threads()
    rounds = -(-rows // (most * threads))
    return -(-rows // (rounds * threads))


@cache
def _workers(threads: int) -> ThreadPoolExecutor:
    """Return the worker threads, which live as long as the process."""
    return ThreadPoolExecutor(threads, "lethe-share", initializer=use_one_thread)


def use_one_thread() -> None:
    """Compute on this thread alone whatever it does from now on.

    The number that torch was last given anywhere in the process is that of each thread which had not asked
    for it yet, even if it has set its own before. So this one asks first.
    """
    torch.get_num_threads()
    torch.set_num_threads(1)
