"""What checkpoints cost: the time that learning loses by one, over the time from one to the next.

At the default cadence there is one in half a minute, too few to see in a run that is short enough
to repeat. So a turn learns so many samples and takes exactly one checkpoint at its begin, which
is written beside them; another learns as many without. What the first takes longer is what was
lost: copying the state, and the disk's, the hash's and the writing thread's share of the machine.
Before the first turn the learner has met several subjects, and has its full size; how many of them it
learns between two checkpoints decides on how much there is to be copied and hashed.

Neighbours on the machine make that number jump from turn to turn, so its quartiles are told, too.
The processor's time that a checkpoint needs hardly depends on them: learning cannot lose more than
that for want of a core, and not less than what the copy of the state takes.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Final

import torch
from torch import Tensor

from service.bench.subjects import SUBJECTS, subjects
from service.checkpoint import Checkpoint
from service.checkpointer import Checkpointer
from service.copies import Copies
from service.evaluation.history import History
from service.events import CheckpointWritten, Event
from service.journal import Journal
from service.learners import find
from service.learners.base import Learner, State
from service.parts import create_learner
from service.resume import take
from service.settings import CheckpointSettings, LearnerSettings, Settings
from service.slots import BatchSettings
from service.state_folder import StateFolder
from service.stream.source import Position
from service.wire import Labels, Pixels

__all__ = ["CheckpointBench", "CheckpointCost", "bench_checkpoint"]

LEAST: Final = 512
"""Samples of each subject before the first turn: enough to tell it from the next."""


@dataclass(frozen=True)
class CheckpointBench:
    """What is measured, and how often."""

    learner: str = "finetune"
    samples: int = 8192
    """Learned in a turn: writing one checkpoint should end within them."""
    subjects: int = 1
    """That are learned between two checkpoints."""
    turns: int = 7


@dataclass
class CheckpointCost:
    """Seconds a turn took, turn by turn."""

    without: list[float] = field(default_factory=list)
    with_one: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Seconds of a processor that each of the latter needed more."""
    size: int = 0
    """Of a checkpoint, in bytes."""
    every_seconds: float = field(default_factory=lambda: CheckpointSettings().every_seconds)

    @property
    def seconds_lost(self) -> float:
        """What one checkpoint costs: the median over the turns."""
        return median(self._lost())

    @property
    def quartiles(self) -> tuple[float, float]:
        """Between these lies half of what the turns say; both are the value of the only one."""
        lost = self._lost()
        if len(lost) < 2:
            return lost[0], lost[0]
        lower, _, upper = quantiles(lost, n=4, method="inclusive")
        return lower, upper

    def _lost(self) -> list[float]:
        return [a - b for a, b in zip(self.with_one, self.without, strict=True)]

    @property
    def ratio(self) -> float:
        """The share of the throughput that checkpoints cost at the default cadence."""
        return self.seconds_lost / self.every_seconds

    @property
    def cpu_ratio(self) -> float:
        """The share of one core that they need."""
        return median(self.cpu) / self.every_seconds


def bench_checkpoint(bench: CheckpointBench, seed: int = 0) -> Iterator[CheckpointCost]:
    """Yield the cost so far after each turn. Raises LetheError when the learner cannot be had."""
    size = find(bench.learner).batch_size
    settings = Settings(
        learner=LearnerSettings(name=bench.learner, seed=seed), batch=BatchSettings(size=size)
    )
    learner = create_learner(settings.learner, settings.sample)
    history = History([])
    journal = Journal(settings, type(learner), history)
    x_NCHW, y_N = subjects(settings.sample, SUBJECTS * LEAST, seed)
    for x_BCHW, y_B in _batches(x_NCHW, y_N, size):
        learner.learn(x_BCHW, y_B)
    x_NCHW, y_N = subjects(settings.sample, bench.samples * SUBJECTS // bench.subjects, seed + 1)
    lesson = _batches(x_NCHW[-bench.samples :], y_N[-bench.samples :], size)
    copies, cost = Copies(), CheckpointCost()

    def emit(event: Event) -> None:
        if isinstance(event, CheckpointWritten):
            cost.size = event.size_bytes

    def snapshot() -> Checkpoint:
        return take(settings, learner, history, journal, None, Position({0: 0}), copies=copies)

    with (
        TemporaryDirectory(prefix="lethe-bench-", dir=Path.cwd()) as folder,  # /tmp may be memory
        StateFolder(Path(folder), settings.checkpoint.keep) as state,
    ):
        checkpointer = Checkpointer(state, settings.checkpoint, emit, lambda _: None)
        _turn(lesson, learner, checkpointer, snapshot)
        warm = _copied(learner.state())
        for turn in range(bench.turns):
            # whoever comes second finds warmer caches: take turns at that, too
            spent = {}
            for with_one in (turn % 2 == 0, turn % 2 == 1):
                learner.load_state(warm)  # what falls due now and then, like a solve, falls due on both sides
                checkpointer.take(snapshot())
                checkpointer.settle()
                for x_BCHW, y_B in lesson[:: max(1, len(lesson) // bench.subjects)]:
                    learner.learn(x_BCHW, y_B)  # what the next checkpoint has to copy and hash
                begun = time.process_time()
                taking = snapshot if with_one else None
                seconds = _turn(lesson, learner, checkpointer, taking)
                spent[with_one] = time.process_time() - begun
                (cost.with_one if with_one else cost.without).append(seconds)
            cost.cpu.append(spent[True] - spent[False])
            yield cost
        checkpointer.close()


def _copied(state: State) -> State:
    return State({name: t.clone() for name, t in state.tensors.items()}, state.values, state.solved)


def _batches(x_NCHW: Pixels, y_N: Labels, size: int) -> list[tuple[Tensor, Tensor]]:
    x, y = torch.from_numpy(x_NCHW), torch.from_numpy(y_N)
    return list(zip(torch.split(x, size), torch.split(y, size), strict=True))


def _turn(
    lesson: Sequence[tuple[Tensor, Tensor]],
    learner: Learner,
    checkpointer: Checkpointer,
    snapshot: Callable[[], Checkpoint] | None,
) -> float:
    """Return the seconds that a lesson takes, with a checkpoint when there is one to be taken."""
    started = time.perf_counter()
    if snapshot is not None:
        checkpointer.take(snapshot())
    for x_BCHW, y_B in lesson:
        learner.learn(x_BCHW, y_B)
        checkpointer.poll()
    checkpointer.settle()  # what is not written by now would be paid for by the next turn
    return time.perf_counter() - started
