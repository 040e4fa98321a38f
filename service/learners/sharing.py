"""Work that is shared among threads as they get free.

torch shares an operation in equal parts, and waits for the last. On a machine that does something
else, too, such as answering requests, each core that is busy with that for a moment stops the
other ones. So what takes long is cut into more pieces than there are threads.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

__all__ = ["share"]

Piece = TypeVar("Piece")


def share(do: Callable[[Piece], object], pieces: Iterable[Piece]) -> None:
    """Call ``do`` for each of the pieces, on as many threads as torch may use in this one.

    The calls are in no order and must not depend on one another; each runs on a single thread, so that
    what it returns does not depend on how many there are. Raises what the first of them raised.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        for piece in pieces:
            do(piece)
    else:
        inference = torch.is_inference_mode_enabled()  # of this thread alone

        def do_likewise(piece: Piece) -> None:
            with torch.inference_mode(inference):
                do(piece)

        for _ in _workers(threads).map(do_likewise, pieces):
            pass


@cache
def _workers(threads: int) -> ThreadPoolExecutor:
    """Return the process's threads for this, which live as long as it does."""
    return ThreadPoolExecutor(threads, "lethe-share", initializer=torch.set_num_threads, initargs=(1,))
