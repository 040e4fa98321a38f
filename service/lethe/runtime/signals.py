"""Handles the signals that ask a service to stop."""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["StopRequest", "stop_signals"]

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """A request to stop: the part of `threading.Event` that is safe in a signal handler.

    A handler runs in the main thread between any two instructions, also while that thread holds the lock
    of an event that it waits for; setting the event there would deadlock. Here the handler only sets an
    attribute, and `wait` polls ``descriptor``, to which the interpreter writes as soon as a signal arrives
    (`signal.set_wakeup_fd`).
    """

    def __init__(self, descriptor: int) -> None:
        self._asked, self._descriptor = False, descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def set(self) -> None:
        """Request a stop."""
        self._asked = True

    def is_set(self) -> bool:
        """Return whether a stop was requested."""
        return self._asked

    def wait(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for a request; return whether there is one."""
        if not self._asked and self._poll.poll(timeout * 1000):
            numbers = os.read(self._descriptor, 4096)  # of every signal with a handler, not only these
            self._asked = self._asked or any(number in numbers for number in SIGNALS)
        return self._asked


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Yield a request that SIGTERM and SIGINT set; restore the previous handlers on exit.

    Call it from the main thread only, and never twice at the same time.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    stop = StopRequest(reader)
    written_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    before = [signal.signal(number, lambda *_: stop.set()) for number in SIGNALS]
    try:
        yield stop
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)
        signal.set_wakeup_fd(written_before)
        os.close(writer)
        os.close(reader)
