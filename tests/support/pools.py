"""Ranks that are threads of one process, and learners that have joined each other."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch
from torch import Tensor

from lethe.learners.capabilities import Pools

__all__ = ["ThreadPool", "in_threads", "pools", "together"]


class _Meeting:
    """Where the threads meet, each with a tensor."""

    def __init__(self, size: int) -> None:
        self.barrier = Barrier(size, timeout=60)
        self.brought: list[Tensor] = [torch.empty(0)] * size
        self.given = b""


class ThreadPool:
    """One rank's end of a `lethe.learners.capabilities.Pool`."""

    def __init__(self, rank: int, meeting: _Meeting) -> None:
        self.leads = rank == 0
        self.rank, self.size, self._meeting = rank, len(meeting.brought), meeting
        self.summed: set[torch.dtype] = set()
        """Types of the tensors of more than one entry that were added up."""

    def all_reduce(self, tensor: Tensor) -> None:
        if tensor.numel() > 1:
            self.summed.add(tensor.dtype)
        brought = self._meet(tensor)
        tensor.copy_(torch.stack(brought).sum(0))

    def broadcast(self, tensor: Tensor) -> None:
        tensor.copy_(self._meet(tensor)[0])

    def broadcast_bytes(self, given: bytes = b"") -> bytes:
        if self.leads:
            self._meeting.given = given
        self._meeting.barrier.wait()
        given = self._meeting.given
        self._meeting.barrier.wait()
        return given

    def _meet(self, tensor: Tensor) -> list[Tensor]:
        self._meeting.brought[self.rank] = tensor.clone()
        self._meeting.barrier.wait()
        brought = list(self._meeting.brought)
        self._meeting.barrier.wait()  # nobody brings the next one before all have taken these
        return brought


def pools(size: int) -> Sequence[ThreadPool]:
    """Return the ends of ranks that meet each other."""
    meeting = _Meeting(size)
    return [ThreadPool(rank, meeting) for rank in range(size)]


def together(learners: Sequence[Pools], act: Callable[[int, Pools], None]) -> None:
    """Let each learner, having joined the others, do ``act`` in a thread of its own."""
    ranks = pools(len(learners))
    for rank, learner in zip(ranks, learners, strict=True):
        learner.join(rank)
    in_threads(ranks, lambda rank: act(rank.rank, learners[rank.rank]))


def in_threads(ranks: Sequence[ThreadPool], act: Callable[[ThreadPool], None]) -> None:
    """Let each rank do ``act`` in a thread of its own."""
    with ThreadPoolExecutor(len(ranks)) as threads:
        for done in [threads.submit(act, rank) for rank in ranks]:
            done.result()
