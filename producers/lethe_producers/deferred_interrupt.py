"""Defers Ctrl-C to the end of an operation."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

__all__ = ["DeferredInterrupt"]


class DeferredInterrupt:
    """A context manager within which Ctrl-C takes effect at the end of a `deferred` block.

    Outside such a block it raises KeyboardInterrupt at once, and so does a second Ctrl-C. Other handlers
    stay in force: a job in a shell's background ignores Ctrl-C, and it never reaches other threads.
    """

    def __init__(self) -> None:
        self._deferring = self._requested = self._installed = False

    def __enter__(self) -> Self:
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._interrupt)
            self._installed = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Raise the KeyboardInterrupt of a Ctrl-C within the block at its end."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        if self._requested:
            raise KeyboardInterrupt

    def _interrupt(self, *_: object) -> None:
        if not self._deferring or self._requested:
            raise KeyboardInterrupt
        self._requested = True
