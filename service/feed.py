"""The feeder: a process of its own that reads the broker and fills slots for the learner.

Decoding Kafka's protocol in Python holds the interpreter for as long as a third of a learning
step. Beside the learner, in its own process, it costs the learner nothing but memory traffic.
"""

import multiprocessing
from contextlib import nullcontext, suppress
from multiprocessing.context import ForkServerContext, SpawnContext
from typing import Final, Protocol

from service.batching import Filled, Start
from service.errors import FeederDied, LetheError
from service.feeder import feed
from service.forgetful import forgetful
from service.messages import BrokerState, Commit, Pause, Resume, Task
from service.slots import BatchSettings, Slots
from service.stream.purge import Sharing
from service.stream.settings import StreamSettings
from service.stream.source import Position, Purged
from service.wire import Labels, Layout, Pixels

__all__ = ["SPAWN", "Batch", "Feed", "FeederProcess", "Processes"]

Processes = SpawnContext | ForkServerContext
"""How a process is started: anew, or from a server that has imported what it needs."""
SPAWN: Final = multiprocessing.get_context("spawn")


class Batch:
    """A filled slot. ``x_BCHW`` (uint8) and ``y_B`` (int64) are views that `discard` sets to zero."""

    def __init__(self, slots: Slots, filled: Filled) -> None:
        self.filled = filled
        self.x_BCHW: Pixels = slots.x_SBCHW[filled.slot, : filled.samples]
        self.y_B: Labels = slots.y_SB[filled.slot, : filled.samples]
        self._slots = slots

    def discard(self) -> int:
        """Overwrite the pixels and labels with zeros; return of how many samples."""
        return self._slots.discard(self.filled.slot)


class Feed(Protocol):
    """Batches in stream order, as the loop sees them."""

    def next(self, timeout: float) -> Batch | BrokerState | Purged | None:
        """Return what comes next, or None after ``timeout`` seconds without news."""

    def release(self, batch: Batch) -> None:
        """Discard a batch's pixels and let its slot be filled anew."""

    def commit(self, position: Position, keep: Position | None = None) -> None:
        """Publish how far learning is, for lag tools, and whereto it may fall back, for purges.

        What lies before ``keep`` (by default ``position``) may be deleted from the broker.
        """

    def pause(self, start: Start | None) -> None:
        """Overwrite every slot and read nothing more until `resume`, then again from ``start``.

        None is where reading began. Batches that were handed out are void.
        """

    def resume(self) -> None:
        """Read on after a `pause`."""

    @property
    def resident(self) -> int:
        """Samples whose pixels the service holds now."""

    def close(self) -> None:
        """Stop reading and overwrite every slot."""


class FeederProcess:
    """A `Feed` from Kafka, filled by a child process that dies with its parent.

    Raises, from `next`, the LetheError that stopped the child, or FeederDied when it is gone
    without having said why. An incomplete batch is in a slot for half of ``residency`` seconds at
    most, and the child overwrites what it frees; ``paused`` starts it as after `pause`; ``sharing``
    is for other services on the topic.
    """

    def __init__(
        self,
        stream: StreamSettings,
        batch: BatchSettings,
        layout: Layout,
        position: Position | None = None,
        residency: float | None = None,
        paused: bool = False,
        sharing: Sharing | None = None,
        context: Processes = SPAWN,
    ) -> None:
        self._epoch = 0
        self._slots = Slots(layout, batch, context)
        self._connection, child = context.Pipe()
        alone = Sharing(service="", keep=None, purges=False)
        task = Task(stream, batch, layout, position, residency, paused, sharing or alone)
        self._process = context.Process(
            target=feed,
            args=(child, self._slots, task),
            name="lethe-feeder",
            daemon=True,
        )
        with nullcontext() if residency is None else forgetful():
            self._process.start()
        child.close()  # or the child would not notice that its parent is gone
        self._freed: list[int] = []
        self._together = max(1, batch.slots // 4)
        self._tell((self._epoch, tuple(range(batch.slots))))

    def next(self, timeout: float) -> Batch | BrokerState | Purged | None:
        """Return what comes next, or None after ``timeout`` seconds without news."""
        try:
            if not self._connection.poll(timeout):
                return None
            message = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            self._process.join(1)
            raise FeederDied(f"the feeder process ended with status {self._process.exitcode}") from error
        if isinstance(message, LetheError):
            raise message
        if isinstance(message, BrokerState | Purged):
            return message
        epoch, filled = message
        return Batch(self._slots, filled) if epoch == self._epoch else None  # else reclaimed by a pause

    def release(self, batch: Batch) -> None:
        """Discard a batch's pixels and let its slot be filled anew."""
        batch.discard()
        self._freed.append(batch.filled.slot)
        if len(self._freed) >= self._together:  # one by one, each would wake up the child, to little use
            self._tell((self._epoch, tuple(self._freed)))
            self._freed.clear()

    def commit(self, position: Position, keep: Position | None = None) -> None:
        """Publish how far learning is, and whereto it may fall back."""
        self._tell(Commit(position, keep))

    def pause(self, start: Start | None) -> None:
        """Overwrite every slot and read nothing more until `resume`, then again from ``start``."""
        self._epoch += 1
        self._freed.clear()
        self._tell(Pause(start, self._epoch))

    def resume(self) -> None:
        """Read on after a `pause`."""
        self._tell(Resume())

    def _tell(self, message: tuple[int, tuple[int, ...]] | Commit | Pause | Resume) -> None:
        with suppress(ConnectionError):  # the child is gone: `next` raises why, after what it left
            self._connection.send(message)

    @property
    def resident(self) -> int:
        """Samples whose pixels the service holds now."""
        return self._slots.resident

    @property
    def pid(self) -> int | None:
        """The child's, while it may be running."""
        return self._process.pid

    def close(self) -> None:
        """Stop reading and overwrite every slot."""
        self._connection.close()
        self._process.join(1)  # it has nothing to lose: every report it made was acknowledged
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._slots.discard_all()
