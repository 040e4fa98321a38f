"""Ranks that are threads of one process, and learners that have joined each other."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch
from torch import Tensor

from lethe.learners.capabilities import Pools

__all__ = ["ThreadPool", "together"]


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

    def all_reduce(self, tensor: Tensor) -> None:
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


def together(learners: Sequence[Pools], act: Callable[[int, Pools], None]) -> None:
    """Let each learner, having joined the others, do ``act`` in a thread of its own."""
    meeting = _Meeting(len(learners))
    for rank, learner in enumerate(learners):
        learner.join(ThreadPool(rank, meeting))
    with ThreadPoolExecutor(len(learners)) as threads:
        for done in [threads.submit(act, rank, learner) for rank, learner in enumerate(learners)]:
            done.result()
