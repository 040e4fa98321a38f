"""The connection between the ranks: torch.distributed with gloo.

On one machine it is the loopback interface. Between machines nothing is encrypted, and nobody has to present
a password: the network has to be one that only the ranks' machines can use.

Every rank calls the same methods in the same order. Tensors travel as they are, everything else as JSON:
nothing is pickled.
"""

import faulthandler
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from lethe.errors import RankLost
from lethe.runtime.ranks.environment import (
    STORE,
    local_world,
    master,
    rank,
    several_hosts,
    starts_apart,
    world,
)

__all__ = ["Group", "joined"]

logger = logging.getLogger("lethe")

FIRST: Final = 0
JOIN_SECONDS: Final = 120.0
"""A rank that has not met all others by then ends, and is started again: connecting can hang for ever."""
APART_SECONDS: Final = 600.0
"""How long a rank waits for others that nobody starts together with it.

Kubernetes waits for up to 300 s before it starts a container again. Ranks that waited for less than that
could miss each other for ever.
"""
ALL_THERE: Final = "all-there"
"""The key by which rank 0 says so."""
NOTE_BYTES: Final = 4096
"""Size of a note that arrives in one piece."""
LENGTH_BYTES: Final = 8


class Group:
    """One rank's end of the connection. Every method raises RankLost when another rank has ended."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.collective_seconds = 0.0
        """Seconds in which learners exchanged tensors, or waited for other ranks to."""
        self.collective_bytes = 0
        """Bytes of those tensors."""
        self._sending: list[tuple[dist.Work, Tensor]] = []
        self.clock_offset = self._measure_clock() if several_hosts() else 0.0
        """What to add to this machine's monotonic clock to have rank 0's, up to the latency of a message."""

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which holds what all have learned."""
        return self.rank == FIRST

    def _measure_clock(self) -> float:
        with _connected():
            dist.barrier()  # nobody reads the message late
            sent = torch.tensor([time.monotonic()], dtype=torch.float64)
            dist.broadcast(sent, FIRST)
        return 0.0 if self.leads else float(sent) - time.monotonic()

    def command(self, number: int = 0) -> int:
        """Return rank 0's ``number`` on every rank."""
        sent = torch.tensor([number])
        with _connected():
            dist.broadcast(sent, FIRST)
        return int(sent)

    def send_command(self, number: int) -> None:
        """Let `command` return this rank's ``number`` on the others: when `gather` returns, it has."""
        sent = torch.tensor([number])
        with _connected():
            self._send(dist.broadcast(sent, FIRST, async_op=True), sent)

    def _send(self, work: dist.Work | None, sent: Tensor) -> None:
        if work is not None:  # it is None only for a process that belongs to no rank
            self._sending.append((work, sent))

    def _sent(self) -> None:
        """Wait until everything is sent."""
        while self._sending:
            work, _ = self._sending.pop(0)
            work.wait()

    def broadcast_bytes(self, given: bytes = b"") -> bytes:
        """Return rank 0's ``given`` on every rank."""
        length = self.command(len(given))
        sent = _bytes(given) if self.leads else torch.empty(length, dtype=torch.uint8)
        with _connected():
            dist.broadcast(sent, FIRST)
        return sent.numpy().tobytes()

    def gather(self, note: bytes, meanwhile: Callable[[], object] = lambda: None) -> Sequence[bytes]:
        """Return the notes of all ranks in their order, on rank 0; nothing on the others.

        A message is sent only once it is received. ``meanwhile`` is called before that is waited for.
        """
        head = _bytes(len(note).to_bytes(LENGTH_BYTES) + note[:NOTE_BYTES].ljust(NOTE_BYTES))
        heads = [torch.empty_like(head) for _ in range(self.size)] if self.leads else None
        with _connected():
            self._send(dist.gather(head, heads, dst=FIRST, async_op=True), head)
            if not self.leads and (rest := note[NOTE_BYTES:]):
                self._send(dist.isend(sent := _bytes(rest), FIRST), sent)
        meanwhile()
        with _connected():
            self._sent()
            if heads is None:
                return ()
            others = [self._receive(sender, heads[sender]) for sender in range(1, self.size)]
        return [note, *others]

    def _receive(self, sender: int, head: Tensor) -> bytes:
        """Return the note of which ``head`` is the beginning."""
        begin = head.numpy().tobytes()
        length, text = int.from_bytes(begin[:LENGTH_BYTES]), begin[LENGTH_BYTES:]
        if length <= NOTE_BYTES:
            return text[:length]
        rest = torch.empty(length - NOTE_BYTES, dtype=torch.uint8)
        dist.recv(rest, sender)
        return text + rest.numpy().tobytes()

    def all_reduce(self, tensor: Tensor) -> None:
        """Replace ``tensor``, on every rank, by the sum over all ranks."""
        with self._timed(tensor), _connected():
            dist.all_reduce(tensor)  # with gloo faster than a sum for one rank alone

    def broadcast(self, tensor: Tensor) -> None:
        """Replace ``tensor``, on every rank, by rank 0's."""
        with self._timed(tensor), _connected():
            dist.broadcast(tensor, FIRST)

    @contextmanager
    def waited_for(self) -> Iterator[None]:
        """Compute with the threads of all ranks on this machine: the others wait within the context."""
        own = torch.get_num_threads()
        torch.set_num_threads(own * local_world())
        try:
            yield
        finally:
            torch.set_num_threads(own)

    @contextmanager
    def _timed(self, tensor: Tensor) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.collective_seconds += time.monotonic() - began
        self.collective_bytes += tensor.nbytes


@contextmanager
def joined(timeout: float = 600.0) -> Iterator[Group]:
    """Meet the other ranks, and leave them at the end of the context. Raises RankLost.

    A rank that does not answer for ``timeout`` seconds is lost; one that ends is noticed at once.
    """
    if sys.platform == "linux" and not several_hosts():
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # what the ranks send each other is in clear
    with _connected():
        store = _meet() if starts_apart() else None
        faulthandler.dump_traceback_later(JOIN_SECONDS, exit=True)
        dist.init_process_group(
            "gloo",
            init_method=None if store else _method(),
            store=store,
            rank=rank(),
            world_size=world(),
            timeout=timedelta(seconds=timeout),
        )
    faulthandler.cancel_dump_traceback_later()
    try:
        yield Group()
    finally:
        dist.destroy_process_group()


def _method() -> str:
    """Return where ranks find each other that are started together."""
    return f"file://{store}" if (store := os.environ.get(STORE)) else "env://"


def _meet() -> Store:
    """Wait until all ranks that start apart have come; return the store of rank 0 at which they meet.

    However short the timeout of an answer is: nobody knows when the others are started.
    """
    patience = timedelta(seconds=APART_SECONDS)
    logger.info("rank %d of %d waits for the others at %s:%d", rank(), world(), *master())
    faulthandler.dump_traceback_later(APART_SECONDS + JOIN_SECONDS, exit=True)  # it may exceed its limit
    store: Store
    store, _, _ = next(rendezvous("env://", timeout=patience))  # rank 0 waits here
    if rank() == FIRST:
        store.set(ALL_THERE, "")
    else:
        store.wait([ALL_THERE], patience)
    return store


@contextmanager
def _connected() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo has no class of its own for a closed connection
        raise RankLost(
            f"rank {rank()} has lost the others, of which one has ended or does not answer: {error}"
        ) from error


def _bytes(text: bytes) -> Tensor:
    return torch.frombuffer(bytearray(text), dtype=torch.uint8) if text else torch.empty(0, dtype=torch.uint8)
