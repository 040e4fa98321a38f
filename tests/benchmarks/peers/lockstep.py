"""Runs another library's training loop one iteration at a time."""

from collections.abc import Callable

from greenlet import greenlet

__all__ = ["Lockstep"]


class Lockstep:
    """Runs ``work`` on a stack of its own, from one call of `rest` to the next.

    So a library that owns its training loop can be given one batch at a time. There is one thread;
    an exception in ``work`` is raised in the caller that resumed it.
    """

    def __init__(self, work: Callable[["Lockstep"], None]) -> None:
        """Run ``work``, which is given this, up to its first rest."""
        self._caller = greenlet.getcurrent()
        self._work = greenlet(work)
        self._work.switch(self)

    def go(self) -> None:
        """Let ``work`` run on to its next rest, or its end; raises EOFError when it has ended before."""
        if self._work.dead:
            raise EOFError("the loop has ended")
        self._work.switch()

    def rest(self) -> None:
        """Stand still, inside of ``work``, until the other side says `go`."""
        self._caller.switch()
