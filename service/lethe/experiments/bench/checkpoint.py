"""Measures the cost of checkpoints: learning time lost per checkpoint, relative to the default interval.

At the default interval there is one checkpoint in 30 seconds, too few to see in a run that is short enough to
repeat. So one turn learns a number of samples and takes exactly one checkpoint at its start, written in
the background; another turn learns as many samples without one. The difference in time is what the
checkpoint costs: copying the state, hashing it, and the writing thread's use of disk and CPU. Before the
first turn the learner has learned several subjects and has reached its full size; the number of subjects
learned between two checkpoints determines how much there is to copy and hash.

Other load on the machine makes this difference vary from turn to turn, so its quartiles are reported too.
The CPU time of a checkpoint hardly depends on such load: learning loses at most that much if there is no
spare core, and at least the time of copying the state.
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

from lethe.checkpointing.checkpoint import Checkpoint
from lethe.checkpointing.checkpointer import Checkpointer
from lethe.checkpointing.state_folder import StateFolder
from lethe.evaluation.history import History
from lethe.events import CheckpointWritten, Event
from lethe.experiments.bench.synthetic_images import SUBJECTS, subject_images
from lethe.learners.base import Learner
from lethe.learners.registry import find
from lethe.learners.state import State
from lethe.observability.run_state import RunState
from lethe.privacy.audit.receipt_writer import Receipts
from lethe.runtime.factories import create_learner
from lethe.runtime.resume import take_checkpoint
from lethe.runtime.snapshot import StateSnapshots
from lethe.settings import BatchSettings, CheckpointSettings, LearnerSettings, Settings
from lethe.stream.source import Position
from lethe.wire import Labels, Pixels

__all__ = ["CheckpointBench", "CheckpointCost", "bench_checkpoint"]

LEAST: Final = 512
"""Samples of each subject before the first turn, enough to distinguish it from the next."""


@dataclass(frozen=True)
class CheckpointBench:
    """Options of the benchmark."""

    learner: str = "finetune"
    samples: int = 8192
    """Samples learned per turn; writing one checkpoint should end within them."""
    subjects: int = 1
    """Subjects learned between two checkpoints."""
    turns: int = 7


@dataclass
class CheckpointCost:
    """Measurements of each turn, in seconds."""

    without: list[float] = field(default_factory=list)
    with_one: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Additional CPU seconds of a turn with a checkpoint."""
    size: int = 0
    """Bytes of a checkpoint."""
    every_seconds: float = field(default_factory=lambda: CheckpointSettings().every_seconds)

    @property
    def seconds_lost(self) -> float:
        """Median over the turns of the time lost to one checkpoint."""
        return median(self._lost())

    @property
    def quartiles(self) -> tuple[float, float]:
        """Lower and upper quartile over the turns; with a single turn, its value twice."""
        lost = self._lost()
        if len(lost) < 2:
            return lost[0], lost[0]
        lower, _, upper = quantiles(lost, n=4, method="inclusive")
        return lower, upper

    def _lost(self) -> list[float]:
        return [a - b for a, b in zip(self.with_one, self.without, strict=True)]

    @property
    def ratio(self) -> float:
        """Share of throughput that checkpoints cost at the default interval."""
        return self.seconds_lost / self.every_seconds

    @property
    def cpu_ratio(self) -> float:
        """Share of one core that checkpoints use at the default interval."""
        return median(self.cpu) / self.every_seconds


def bench_checkpoint(bench: CheckpointBench, seed: int = 0) -> Iterator[CheckpointCost]:
    """Yield the cost so far after each turn. Raises LetheError if the learner does not exist."""
    size = find(bench.learner).batch_size
    settings = Settings(
        learner=LearnerSettings(name=bench.learner, seed=seed), batch=BatchSettings(size=size)
    )
    learner = create_learner(settings.learner, settings.sample, settings.batch.size)
    history = History([])
    run_state = RunState(settings, type(learner), history)
    x_NCHW, y_N = subject_images(settings.sample, SUBJECTS * LEAST, seed)
    for x_BCHW, y_B in _batches(x_NCHW, y_N, size):
        learner.learn(x_BCHW, y_B)
    x_NCHW, y_N = subject_images(settings.sample, bench.samples * SUBJECTS // bench.subjects, seed + 1)
    batches = _batches(x_NCHW[-bench.samples :], y_N[-bench.samples :], size)
    snapshots, cost = StateSnapshots(), CheckpointCost()

    def emit(event: Event) -> None:
        if isinstance(event, CheckpointWritten):
            cost.size = event.size_bytes

    def snapshot() -> Checkpoint:
        return take_checkpoint(
            settings, learner, history, run_state, Receipts(), Position({0: 0}), snapshots=snapshots
        )

    with (
        TemporaryDirectory(prefix="lethe-bench-", dir=Path.cwd()) as folder,  # /tmp may be in memory
        StateFolder(Path(folder), settings.checkpoint.keep) as state,
    ):
        checkpointer = Checkpointer(state, settings.checkpoint, emit, lambda _: None)
        _turn(batches, learner, checkpointer, snapshot)
        warm = _copied(learner.state())
        for turn in range(bench.turns):
            # the second finds warmer caches: alternate the order, too
            spent = {}
            for with_one in (turn % 2 == 0, turn % 2 == 1):
                learner.load_state(warm)  # periodic work, such as a solve, falls due on both sides
                checkpointer.take(snapshot())
                checkpointer.wait()
                for x_BCHW, y_B in batches[:: max(1, len(batches) // bench.subjects)]:
                    learner.learn(x_BCHW, y_B)  # changes what the next checkpoint copies and hashes
                begun = time.process_time()
                taking = snapshot if with_one else None
                seconds = _turn(batches, learner, checkpointer, taking)
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
    batches: Sequence[tuple[Tensor, Tensor]],
    learner: Learner,
    checkpointer: Checkpointer,
    snapshot: Callable[[], Checkpoint] | None,
) -> float:
    """Return the seconds that the batches take, with a checkpoint if ``snapshot`` is given."""
    started = time.perf_counter()
    if snapshot is not None:
        checkpointer.take(snapshot())
    for x_BCHW, y_B in batches:
        learner.learn(x_BCHW, y_B)
        checkpointer.poll()
    checkpointer.wait()  # otherwise the next turn would pay for the rest
    return time.perf_counter() - started
