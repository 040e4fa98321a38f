"""CapyMOA's strategies (Lee et al. 2025).

They learn flat vectors, and predict each batch before they learn it in a forward pass of its own,
as in CapyMOA's loop: that belongs to their speed. SI, MAS and LwF start each segment, which
CapyMOA calls a task, with an optimizer that remembers nothing.
"""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Final

from capymoa.classifier import Finetune as CapyMOAFinetune
from capymoa.ocl.evaluation.events import TrainTaskBegin
from capymoa.ocl.events import Dispatcher, Handler
from capymoa.ocl.strategy import EWC, LWF, MAS, SI, ExperienceReplay
from capymoa.stream import Schema
from torch import Tensor, nn

from lethe.learners.base import LearnerContext, Retention
from lethe.wire import Layout
from tests.benchmarks.peers.peer import Peer, floats

__all__ = ["CAPYMOA", "CapyMOA"]


class CapyMOA(Peer):
    """A strategy of CapyMOA, which calls a segment a task and is notified of it by events."""

    paper: ClassVar[str] = "Lee et al. 2025, CapyMOA"

    def __init__(self, context: LearnerContext) -> None:
        super().__init__(context)
        flat = nn.Sequential(nn.Unflatten(1, context.layout.shape), self._model)
        self._strategy = self._create(_schema(context.layout), flat)
        self._events, self._task, self._step = Dispatcher(), 0, 0
        if isinstance(self._strategy, Handler):
            self._strategy.attach_with(self._events)
        self._begin_task()

    @abstractmethod
    def _create(self, schema: Any, model: nn.Module) -> Any:
        """Return the strategy for a model of flat vectors."""

    def _begin_task(self) -> None:
        self._events.notify(TrainTaskBegin(train_task=self._task, global_step=self._step))

    def _learn(self, x_BCHW: Tensor, y_B: Tensor, at_boundary: bool) -> Tensor:
        if at_boundary:
            self._task += 1
            self._begin_task()
        x_BP = floats(x_BCHW).flatten(1)
        predicted_B: Tensor = self._strategy.batch_predict(x_BP)
        self._strategy.batch_train(x_BP, y_B)
        self._step += 1
        return predicted_B

    def _kept(self) -> Iterable[Tensor]:
        own = {parameter.data_ptr() for parameter in self._parameters.values()}
        if isinstance(self._strategy, nn.Module):
            yield from (t for t in self._strategy.state_dict().values() if t.data_ptr() not in own)


class CapyMOAFinetuning(CapyMOA):
    name: ClassVar[str] = "capymoa-finetune"
    retains: ClassVar[Retention] = Retention.NOTHING
    keeps: ClassVar[str] = "nothing"
    summary: ClassVar[str] = "CapyMOA's Finetune"

    def _create(self, schema: Any, model: nn.Module) -> Any:
        return CapyMOAFinetune(schema, model, self._optimizer, random_seed=self._seed)


class CapyMOAEWC(CapyMOA):
    name: ClassVar[str] = "capymoa-ewc"
    retains: ClassVar[Retention] = Retention.SAMPLES
    keeps: ClassVar[str] = "256 samples"
    summary: ClassVar[str] = "CapyMOA's EWC, λ = 10⁴: Fisher information of the last 256 samples"

    def _create(self, schema: Any, model: nn.Module) -> Any:
        return EWC(schema, model, self._optimizer, lambda_=1e4)


class CapyMOASI(CapyMOA):
    name: ClassVar[str] = "capymoa-si"
    retains: ClassVar[Retention] = Retention.STATISTICS
    keeps: ClassVar[str] = "statistics"
    summary: ClassVar[str] = "CapyMOA's SI, λ = 100"

    def _create(self, schema: Any, model: nn.Module) -> Any:
        return SI(schema, model, self._optimizer, lambda_=100)


class CapyMOAMAS(CapyMOA):
    name: ClassVar[str] = "capymoa-mas"
    retains: ClassVar[Retention] = Retention.SAMPLES
    keeps: ClassVar[str] = "256 samples"
    summary: ClassVar[str] = "CapyMOA's MAS, λ = 1: sensitivity to the last 256 samples"

    def _create(self, schema: Any, model: nn.Module) -> Any:
        return MAS(schema, model, self._optimizer, lambda_=1)


class CapyMOALwF(CapyMOA):
    name: ClassVar[str] = "capymoa-lwf"
    retains: ClassVar[Retention] = Retention.NOTHING
    keeps: ClassVar[str] = "nothing"
    summary: ClassVar[str] = "CapyMOA's LWF, α = 1, temperature 2: the weights of before are the teacher"

    def _create(self, schema: Any, model: nn.Module) -> Any:
        return LWF(schema, model, self._optimizer, alpha=1.0, temperature=2.0)


class CapyMOAReplay(CapyMOA):
    name: ClassVar[str] = "capymoa-replay"
    retains: ClassVar[Retention] = Retention.SAMPLES
    keeps: ClassVar[str] = "5,000 samples"
    summary: ClassVar[str] = "CapyMOA's ExperienceReplay of 5,000 samples; it needs no boundaries"

    def _create(self, schema: Any, model: nn.Module) -> Any:
        learner = CapyMOAFinetune(schema, model, self._optimizer, random_seed=self._seed)
        return ExperienceReplay(learner, buffer_size=5000)

    def _kept(self) -> Iterable[Tensor]:
        return (tensor for tensor in self._strategy._buffer.array())


def _schema(layout: Layout) -> Any:
    pixels = layout.channels * layout.height * layout.width
    labels = [str(label) for label in range(layout.classes)]
    return Schema.from_custom(
        [*(f"pixel{nth}" for nth in range(pixels)), "label"], target="label", categories={"label": labels}
    )


CAPYMOA: Final[tuple[type[CapyMOA], ...]] = (
    CapyMOAFinetuning,
    CapyMOAEWC,
    CapyMOASI,
    CapyMOAMAS,
    CapyMOALwF,
    CapyMOAReplay,
)
"""What is measured."""
