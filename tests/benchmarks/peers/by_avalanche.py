"""Avalanche's strategies (Lomonaco et al. 2021; Carta et al. 2023), the version of requirements.txt.

Avalanche owns the training loop and is handed each segment as a data set, so it is taken batch by
batch through a `Lockstep`. Strengths are as CapyMOA's: its EWC halves λ, and Avalanche's does
not, which makes 10⁴ there 5,000 here.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Final, Self

import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import (
    ConstantSequence,
    DataAttribute,
    TaskAwareSupervisedClassificationDataset,
)
from avalanche.training import EWC, LwF, Naive, Replay, SynapticIntelligence
from avalanche.training.plugins import EWCPlugin, LwFPlugin, ReplayPlugin, SynapticIntelligencePlugin
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lethe.learners.base import LearnerContext, Retention
from tests.benchmarks.peers.lockstep import Lockstep
from tests.benchmarks.peers.peer import Peer, floats
from tests.benchmarks.peers.recorder import Segment

__all__ = ["AVALANCHE", "Avalanche"]


class Avalanche(Peer):
    """A strategy whose training loop stands still before each batch."""

    paper: ClassVar[str] = "Carta et al. 2023, Avalanche: A PyTorch Library for Deep Continual Learning"

    def __init__(self, context: LearnerContext, segments: Sequence[Segment]) -> None:
        """Prepare to learn ``segments``, whose batches `learn` must then be given in their order."""
        super().__init__(context)
        self._longest = max(([*segment.x, *segment.y] for segment in segments), key=len)
        stream = benchmark_from_datasets(train=[_data_set(segment) for segment in segments]).train_stream
        self._marks = _Marks()
        self._strategy = self._create(
            model=nn.Sequential(_Scaled(), self._model),
            optimizer=self._optimizer,
            criterion=nn.CrossEntropyLoss(),
            train_mb_size=self.batch_size,
            train_epochs=1,
            evaluator=None,
            plugins=[self._marks],
        )
        self._training = Lockstep(lambda lockstep: self._train(stream, lockstep))

    @classmethod
    def for_segments(cls, context: LearnerContext, segments: Callable[[], Sequence[Segment]]) -> Self:
        """Return one that has been handed the segments."""
        return cls(context, segments())

    @abstractmethod
    def _create(self, **common: Any) -> Any:
        """Return the strategy, built with ``common`` and its own arguments."""

    def _train(self, stream: Any, lockstep: Lockstep) -> None:
        self._marks.lockstep = lockstep
        self._strategy.train(stream, eval_streams=[], shuffle=False)

    def _learn(self, x_BCHW: Tensor, y_B: Tensor, at_boundary: bool) -> Tensor:
        """Run the loop on to its next batch; raises ValueError if that is another batch than this one."""
        mine_BCHW, mine_B = self._strategy.mb_x[: len(y_B)], self._strategy.mb_y[: len(y_B)]
        if not (torch.equal(mine_BCHW, x_BCHW) and torch.equal(mine_B, y_B)):
            raise ValueError("the batch is not the one that Avalanche's loop stands before")
        self._training.go()
        return self._marks.scores_BK[: len(y_B)].argmax(1)


class _Marks:
    """A plugin: it stops the loop before each batch, and keeps the scores that were computed for it."""

    scores_BK: Tensor
    lockstep: Lockstep

    def before_training_iteration(self, _strategy: Any, **_: Any) -> None:
        self.lockstep.rest()

    def after_forward(self, strategy: Any, **_: Any) -> None:
        self.scores_BK = strategy.mb_output.detach()


class _Scaled(nn.Module):
    """Avalanche is handed bytes: a quarter of the memory."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return floats(x_BCHW)


class AvalancheNaive(Avalanche):
    name: ClassVar[str] = "avalanche-naive"
    retains: ClassVar[Retention] = Retention.NOTHING
    keeps: ClassVar[str] = "nothing"
    summary: ClassVar[str] = "Avalanche's Naive"

    def _create(self, **common: Any) -> Any:
        return Naive(**common)

    def _kept(self) -> Iterable[Tensor]:
        return ()


class AvalancheEWC(Avalanche):
    name: ClassVar[str] = "avalanche-ewc"
    retains: ClassVar[Retention] = Retention.SAMPLES
    keeps: ClassVar[str] = "a segment"
    summary: ClassVar[str] = "Avalanche's EWC, λ = 5,000: Fisher information of the whole segment that ended"

    def _create(self, **common: Any) -> Any:
        return EWC(ewc_lambda=5e3, **common)

    def _kept(self) -> Iterable[Tensor]:
        (ewc,) = (plugin for plugin in self._strategy.plugins if isinstance(plugin, EWCPlugin))
        for kept in (ewc.saved_params, ewc.importances):
            yield from (parameter.data for segment in kept.values() for parameter in segment.values())
        yield from self._longest


class AvalancheSI(Avalanche):
    name: ClassVar[str] = "avalanche-si"
    retains: ClassVar[Retention] = Retention.STATISTICS
    keeps: ClassVar[str] = "statistics"
    summary: ClassVar[str] = "Avalanche's SynapticIntelligence, λ = 100"

    def _create(self, **common: Any) -> Any:
        return SynapticIntelligence(si_lambda=100.0, **common)

    def _kept(self) -> Iterable[Tensor]:
        (si,) = (p for p in self._strategy.plugins if isinstance(p, SynapticIntelligencePlugin))
        for kept in (*si.ewc_data, *si.syn_data.values()):
            yield from (parameter.data for parameter in kept.values())


class AvalancheLwF(Avalanche):
    name: ClassVar[str] = "avalanche-lwf"
    retains: ClassVar[Retention] = Retention.NOTHING
    keeps: ClassVar[str] = "nothing"
    summary: ClassVar[str] = "Avalanche's LwF, α = 1, temperature 2: the weights of before are the teacher"

    def _create(self, **common: Any) -> Any:
        return LwF(alpha=1.0, temperature=2.0, **common)

    def _kept(self) -> Iterable[Tensor]:
        (lwf,) = (plugin for plugin in self._strategy.plugins if isinstance(plugin, LwFPlugin))
        teacher = lwf.lwf.prev_model
        return () if teacher is None else teacher.state_dict().values()


class AvalancheReplay(Avalanche):
    name: ClassVar[str] = "avalanche-replay"
    retains: ClassVar[Retention] = Retention.SAMPLES
    keeps: ClassVar[str] = "a segment"
    summary: ClassVar[str] = "Avalanche's Replay of 5,000 samples, drawn from the segments that ended"

    def _create(self, **common: Any) -> Any:
        return Replay(mem_size=5000, **common)

    def _kept(self) -> Iterable[Tensor]:
        (replay,) = (plugin for plugin in self._strategy.plugins if isinstance(plugin, ReplayPlugin))
        for sample in replay.storage_policy.buffer:
            yield sample[0]
        yield from self._longest


AVALANCHE: Final[tuple[type[Avalanche], ...]] = (
    AvalancheNaive,
    AvalancheEWC,
    AvalancheSI,
    AvalancheLwF,
    AvalancheReplay,
)
"""What is measured."""


def _data_set(segment: Segment) -> Any:
    labels_N = torch.cat(segment.y)
    return TaskAwareSupervisedClassificationDataset(
        [TensorDataset(torch.cat(segment.x), labels_N)],
        data_attributes=[
            DataAttribute(labels_N.tolist(), "targets"),
            DataAttribute(ConstantSequence(0, len(labels_N)), "targets_task_labels", use_in_getitem=True),
        ],
    )
