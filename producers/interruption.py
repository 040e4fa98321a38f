"""Ctrl-C that cuts nothing in two."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

__all__ = ["Interruption"]


class Interruption:
    """A context manager within which Ctrl-C waits for the end of what is `held`.

    Elsewhere it raises KeyboardInterrupt at once, as ever, and so does a second one. Where Ctrl-C means
    something else, it is left so: a program in a shell's background ignores it, other threads never see it.
    """

    def __init__(self) -> None:
        self._held = self._asked = self._handles = False

    def __enter__(self) -> Self:
        mine = threading.current_thread() is threading.main_thread()
        if mine and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._interrupt)
            self._handles = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handles:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Do what is within as a whole, and raise KeyboardInterrupt after it, if that was asked for."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._asked:
            raise KeyboardInterrupt

    def _interrupt(self, *_: object) -> None:
        if not self._held or self._asked:
            raise KeyboardInterrupt
        self._asked = True
