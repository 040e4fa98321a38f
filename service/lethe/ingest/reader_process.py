"""Reads Kafka and fills slots in a process of its own.

Decoding Kafka's protocol in Python holds the interpreter for up to a third of a training step. In a
process of its own it costs the learner nothing but memory bandwidth.
"""

import multiprocessing
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext, suppress
from multiprocessing.context import ForkServerContext, SpawnContext
from typing import Final

from lethe.errors import LetheError, ReaderDied
from lethe.ingest.batcher import FilledBatch, Start
from lethe.ingest.decoding.decoder import DecoderTask
from lethe.ingest.decoding.processes import DecoderProcesses
from lethe.ingest.decoding.time_limit import decoding_seconds
from lethe.ingest.feed import Batch, FeedMessage
from lethe.ingest.messages import (
    BrokerState,
    Commit,
    CommitState,
    IncompleteBatchDiscarded,
    Pause,
    ReaderTask,
    Resume,
)
from lethe.ingest.reader import read_stream
from lethe.ingest.scrubbing import core_dumps_disabled, scrubbing_children
from lethe.ingest.slots import Slots
from lethe.settings import BatchSettings, LabelSettings
from lethe.stream.purge import Sharing
from lethe.stream.settings import StreamSettings
from lethe.stream.source import Position, Purged
from lethe.wire import Layout

__all__ = ["SPAWN", "ProcessContext", "ReaderProcess"]

ProcessContext = SpawnContext | ForkServerContext
"""How a process is started: as a new interpreter, or forked from a server with the imports done."""
SPAWN: Final = multiprocessing.get_context("spawn")


class ReaderProcess:
    """A `Feed` from Kafka, filled by a child process that ends with its parent.

    `next` raises the LetheError that stopped the child, or ReaderDied when it ended without one. An
    incomplete batch is in a slot for at most half of ``residency`` seconds, and with it the child
    overwrites memory that it frees. ``paused`` starts as after `pause`. ``sharing`` is for other
    services on the topic. Only names of ``segments`` are kept, if these are given. Dead letters hash
    values with ``dead_letter_key``. The child disables core dumps if its parent has. With ``until``, each
    partition is read up to that offset. With ``origin_headers``, batches name the origin of each sample, with
    those of its headers. With ``names``, labels are names, of which these come first; with ``unlabelled``,
    records without a label are samples; ``late`` says where their labels may come from.

    With ``batch.readers`` above 1, so many further processes decode for the child.
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
        context: ProcessContext = SPAWN,
        *,
        segments: frozenset[str] | None = None,
        dead_letter_key: bytes | None = None,
        until: Mapping[int, int] | None = None,
        origin_headers: Collection[str] | None = None,
        names: Sequence[str] | None = None,
        unlabelled: bool = False,
        late: LabelSettings | None = None,
    ) -> None:
        self._epoch = 0
        self._slots = Slots(layout, batch, context)
        self._connection, child = context.Pipe()
        alone = Sharing(service="", keep=None, purges=False)
        task = ReaderTask(
            stream,
            batch,
            layout,
            position,
            residency,
            paused,
            sharing or alone,
            segments,
            dead_letter_key,
            no_core_dumps=core_dumps_disabled(),
            until=until,
            origin_headers=origin_headers,
            names=names,
            unlabelled=unlabelled,
            late=late,
        )
        with nullcontext() if residency is None else scrubbing_children():
            self._decoders = None
            if batch.readers > 1:
                limit = decoding_seconds(residency)
                decoding = DecoderTask(layout, limit, no_core_dumps=task.no_core_dumps)
                self._decoders = DecoderProcesses(batch, decoding, context)
            decoders = None if self._decoders is None else self._decoders.connect()
            self._process = context.Process(
                target=read_stream,
                args=(child, self._slots, task, decoders),
                name="lethe-reader",
                daemon=True,
            )
            self._process.start()
        child.close()  # else the child would not notice the end of its parent
        if self._decoders is not None:
            self._decoders.started()
        self._freed: list[int] = []
        self._freed_at_once = max(1, batch.slots // 4)
        self._send((self._epoch, tuple(range(batch.slots))))

    def next(self, timeout: float) -> FeedMessage | None:
        """Return the next message, or None if there is none within ``timeout`` seconds."""
        try:
            if not self._connection.poll(timeout):
                return None
            message = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            self._process.join(1)
            raise ReaderDied(f"the reader process ended with status {self._process.exitcode}") from error
        if isinstance(message, ReaderDied) and self._decoders is not None:
            raise ReaderDied(self._decoders.failure or str(message))
        if isinstance(message, LetheError):
            raise message
        if isinstance(message, BrokerState | CommitState | IncompleteBatchDiscarded | Purged):
            return message
        epoch, read = message
        if epoch != self._epoch:
            return None  # from before a pause
        return Batch(self._slots, read) if isinstance(read, FilledBatch) else read

    def release(self, batch: Batch) -> None:
        """Discard a batch's pixels and free its slot."""
        batch.discard()
        self._freed.append(batch.filled.slot)
        if len(self._freed) >= self._freed_at_once:  # each message wakes up the child
            self._send((self._epoch, tuple(self._freed)))
            self._freed.clear()

    def commit(self, position: Position, keep: Position | None = None) -> None:
        """Publish how far learning is, and where it may fall back to."""
        self._send(Commit(position, keep))

    def pause(self, start: Start | None) -> None:
        """Overwrite every slot and read nothing until `resume`, then again from ``start``."""
        self._epoch += 1
        self._freed.clear()
        self._send(Pause(start, self._epoch))

    def resume(self) -> None:
        """Continue reading after a `pause`."""
        self._send(Resume())

    def _send(self, message: tuple[int, tuple[int, ...]] | Commit | Pause | Resume) -> None:
        with suppress(ConnectionError):  # the child has ended: `next` raises why, after its last messages
            self._connection.send(message)

    @property
    def resident(self) -> int:
        """Samples whose pixels are in memory."""
        return self._slots.resident

    @property
    def pid(self) -> int | None:
        """The child's process id."""
        return self._process.pid

    @property
    def pids(self) -> Sequence[int]:
        """The process ids of the child and of those that decode for it."""
        decoders = [] if self._decoders is None else self._decoders.pids
        return [*decoders] if self.pid is None else [self.pid, *decoders]

    def close(self) -> None:
        """Stop reading and overwrite every slot."""
        self._connection.close()
        self._process.join(1)  # nothing is lost by killing it: all its dead letters are acknowledged
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        if self._decoders is not None:
            self._decoders.close()
        self._slots.discard_all()
