"""The base of gradient-descent learners: a network, an optimizer, and one step per batch.

Shapes: B batch, C channels, H height, W width, K classes. Of vectors, x_BCHW has shape [B, F].
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from hashlib import blake2b
from typing import ClassVar, Final, cast

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from lethe.errors import DivergedLoss, InvalidSetting
from lethe.learners.base import Learned, Learner, LearnerContext, Retention
from lethe.learners.capabilities import Capability
from lethe.learners.gradient.averaging import Alone
from lethe.learners.gradient.backbones import BACKBONES, as_floats, build, check_same
from lethe.learners.gradient.motion import MotionTracker
from lethe.learners.gradient.network_check import (
    NetworkTraits,
    UnsuitableNetwork,
    check_network,
    frozen_batch_norms,
)
from lethe.learners.gradient.optimizers import create_optimizer, load_moments, moments, optimizer_kind
from lethe.learners.modules import NetworkClassifier, ScaledPixels
from lethe.learners.motion import Motion
from lethe.learners.predictor import Predictor, in_chunks
from lethe.learners.state import JSON, State
from lethe.learners.vector_scale import VectorOptions, VectorScale
from lethe.wire import Layout

__all__ = ["GradientLearner", "GradientOptions", "Step"]

MODEL: Final = "model."
"""Prefix of the names of a state's weights."""
INPUTS: Final = "inputs."
"""Prefix of the names of a state's scale of vectors."""


class GradientOptions(VectorOptions):
    """The network and its optimizer."""

    backbone: str = "auto"
    """The network: small-cnn, mlp, or your own module:factory, of the working folder or an
    installed package, called with the layout. auto is small-cnn for
    images and mlp for vectors."""
    optimizer: str = "Adam"
    """Name of an optimizer in torch.optim."""
    lr: float = Field(default=1e-3, gt=0)
    """Learning rate of the optimizer."""
    optimizer_options: dict[str, bool | int | float | str | list[float] | None] = Field(default_factory=dict)
    """Other arguments of the optimizer, as JSON: {"weight_decay": 0.01}."""

    @field_validator("optimizer")
    @classmethod
    def _is_known(cls, value: str) -> str:
        optimizer_kind(value)
        return value


@dataclass(frozen=True, slots=True)
class Step:
    """A batch after its forward pass.

    ``pixels_BCHW`` are the caller's samples, to which no reference may be kept. The rest is on the learner's
    device: ``x_BCHW`` are float32 images in −1 … 1 or standardised vectors, ``loss`` is the mean cross
    entropy of ``scores_BK``. ``samples`` is the number of samples in the batches of all ranks: without other
    ranks, of this one.
    """

    pixels_BCHW: Tensor
    x_BCHW: Tensor
    y_B: Tensor
    scores_BK: Tensor
    loss: Tensor
    samples: int

    @property
    def share(self) -> float:
        """The batch's share in the samples of all ranks."""
        return len(self.y_B) / self.samples


class GradientLearner(Learner):
    """Minimises cross entropy by one optimizer step per batch; methods against forgetting extend it.

    Hooks of a method, in the order in which `learn` calls them: `_objective` returns what is minimised,
    `_before_step` runs once the gradients exist, `_after_step` once the weights have moved. Only the last two
    may change state, because the batch can still be rejected before. Among several ranks (`AveragedLearner`)
    the gradients are then averages, and a rank without a batch gets a step with empty tensors.

    The reported predictions are those of `predict_proba`. If the network gives other scores in training
    mode (`NetworkTraits`), they take an extra forward pass. Random numbers that the network draws are
    derived from the seed and the number of samples seen. A network that cannot be trained is rejected at
    construction.

    Vectors are standardised by the scale of the options, or by a running one (`VectorScale`), which is
    retained: a batch is learned with the scale of the samples before it, the first one with its own.
    """

    Options: ClassVar[type[GradientOptions]] = GradientOptions
    reports_probabilities: ClassVar[bool] = True
    lacks: ClassVar[Mapping[Capability, str]] = {
        Capability.UNLEARNS: "its weights are trained by gradient descent, whose steps cannot be undone"
    }

    def __init__(self, context: LearnerContext) -> None:
        options = self._options = self.Options.of(context.options)
        self._device, self._seed = context.device, context.seed
        self._seen = 0
        self._scale = VectorScale.of(context.layout, options)
        self._model = build(options.backbone, context.layout, context.seed).to(context.device)
        self._traits = NetworkTraits() if options.backbone in BACKBONES else self._tried(context)
        self._parameters = {name: p for name, p in self._model.named_parameters() if p.requires_grad}
        self._optimizer = self._new_optimizer()
        self._tracker = MotionTracker(self._parameters.values())
        self._averaging = Alone()

    def _tried(self, context: LearnerContext) -> NetworkTraits:
        try:
            return check_network(self._model, context.layout, context.batch_size, context.device)
        except UnsuitableNetwork as error:
            raise InvalidSetting(f"learner.options.backbone: {self._options.backbone}: {error}") from error

    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        """Take one step; its forward pass is also the prediction, unless training and eval mode differ.

        ``loss`` is the mean cross entropy of the prediction, in nats. Raises DivergedLoss.
        """
        samples = self._averaging.total(len(y_B))
        buffers = {name: buffer.clone() for name, buffer in self._model.named_buffers()}
        before = self._scale
        after = None if before is None else before.after(x_BCHW)
        if before is not None and not before.known:
            self._scale = after
        with torch.backends.cudnn.flags(deterministic=True):  # the default algorithms may sum in any order
            evaluated_BK = self._predicted_scores(x_BCHW) if self._traits.modes_differ else None
            with self._seeded_network():
                step = self._forward(x_BCHW, y_B, samples)
                objective = self._objective(step)
            scores_BK, reported = step.scores_BK.detach(), step.loss
            if evaluated_BK is not None:
                scores_BK = evaluated_BK
                reported = nn.functional.cross_entropy(evaluated_BK, y_B.to(self._device))
            loss = reported.item()
            self._clear_gradients()
            torch.autograd.backward(objective)
            try:
                self._take(step, loss, objective.item())
            except DivergedLoss:
                for name, buffer in self._model.named_buffers():  # batch norms have seen the batch already
                    buffer.copy_(buffers[name])
                self._scale = before
                raise
        self._scale = after
        return Learned(scores_BK.argmax(1).cpu(), loss, probabilities=lambda: scores_BK.softmax(1).cpu())

    def _clear_gradients(self) -> None:
        for parameter in self._trained:
            parameter.grad = None

    @property
    def _trained(self) -> Sequence[nn.Parameter]:
        """The parameters that have gradients."""
        return [*self._parameters.values()]

    def _take(self, step: Step, loss: float, minimised: float) -> None:
        """Take a step, once the gradients exist.

        Raises DivergedLoss, before anything changes, unless ``loss`` and ``minimised``, what the gradients
        lower, are finite on every rank.
        """
        loss, minimised = self._averaging.average_gradients(self._trained, step.share, loss, minimised)
        self.require_finite(step.samples, cross_entropy=loss, objective=minimised)
        self._tracker.look()
        self._before_step(step)
        self._optimizer.step()
        self._seen += step.samples
        self._after_step(step)

    @classmethod
    def retention(cls, layout: Layout, options: Mapping[str, JSON]) -> Retention:
        """Return the most that it retains: of vectors also their running scale, a statistic."""
        running = layout.features is not None and options.get("spread") is None
        return Retention.STATISTICS if running and cls.retains is Retention.NOTHING else cls.retains

    @property
    def motion(self) -> Motion | None:
        """How the weights moved with the last batch that was measured; None before the first."""
        return self._tracker.latest

    def _forward(self, pixels_BCHW: Tensor, y_B: Tensor, samples: int) -> Step:
        x_BCHW, y_B = self._floats(pixels_BCHW), y_B.to(self._device)
        scores_BK = self._training_scores(x_BCHW)
        loss = nn.functional.cross_entropy(scores_BK, y_B)
        return Step(pixels_BCHW, x_BCHW, y_B, scores_BK, loss, samples)

    def _training_scores(self, x_BCHW: Tensor) -> Tensor:
        """Return the network's scores in training mode, of `Step.x_BCHW`.

        A batch of one has no variance. If the network needs one, its batch norms use their running
        statistics, as in eval mode, and do not update them.
        """
        held = self._traits.holds_single and len(x_BCHW) == 1
        with frozen_batch_norms(self._model) if held else nullcontext():
            scores_BK: Tensor = self._model(x_BCHW)
        return scores_BK

    def _objective(self, step: Step) -> Tensor:
        """Return the scalar that is minimised."""
        return step.loss

    def _before_step(self, step: Step, /) -> None:
        """Use or change the gradients."""

    def _after_step(self, step: Step, /) -> None:
        """Use or change the weights."""

    def _new_optimizer(self, parameters: Mapping[str, nn.Parameter] | None = None) -> torch.optim.Optimizer:
        """Return a new optimizer of ``parameters``, by default those of the network."""
        options, own = self._options, self._parameters if parameters is None else parameters
        return create_optimizer(options.optimizer, own, options.lr, options.optimizer_options)

    def _rewind(self, before: Mapping[str, Tensor]) -> None:
        """Restore the network, with its buffers, from ``before`` a boundary, and reset the optimizer.

        The first steps of a new regime do the most harm, above all while the optimizer's moments still come
        from the small gradients of the old one.
        """
        with torch.no_grad():
            for name, tensor in self._model.state_dict().items():
                tensor.copy_(before[name])
        self._optimizer = self._new_optimizer()

    def _derived_generator(self, purpose: str) -> torch.Generator:
        """Return a generator, on the CPU, for one purpose within a batch.

        It is derived from the seed and the number of samples seen, so a rejected batch draws nothing. Each
        rank has its own.
        """
        return torch.Generator().manual_seed(self._derived_seed(purpose))

    def _derived_seed(self, purpose: str) -> int:
        rank = f" rank {self._averaging.rank}" if self._averaging.rank else ""
        key = f"{self._seed} {self._seen} {purpose}{rank}"
        return int.from_bytes(blake2b(key.encode(), digest_size=8).digest())

    @contextmanager
    def _seeded_network(self) -> Iterator[None]:
        """Seed the random numbers that the network draws within, as `_derived_generator` does."""
        if not self._traits.random:
            yield
            return
        with torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(self._derived_seed("network"))
            yield

    def predict_proba(self, x_BCHW: Tensor) -> Tensor:
        """Return the softmax of the scores."""
        with self._eval_mode():
            return self._probabilities(x_BCHW)

    @contextmanager
    def _eval_mode(self) -> Iterator[None]:
        learning = [module for module in self._model.modules() if module.training]
        self._model.eval()
        try:
            yield
        finally:
            for module in learning:  # and no other: a backbone may keep some of its modules in eval mode
                module.training = True

    @torch.inference_mode()
    def _predicted_scores(self, x_BCHW: Tensor) -> Tensor:
        """Return the scores behind `predict_proba`, on the device."""
        with self._eval_mode():
            return in_chunks(lambda x: self._model(self._floats(x)), x_BCHW)

    def module(self) -> nn.Module:
        """Return a copy of the network, with the scaling of samples before and the softmax behind it."""
        inputs = ScaledPixels() if self._scale is None else self._scale.module()
        return NetworkClassifier(inputs, copy.deepcopy(self._model).cpu())

    def predictor(self) -> Predictor:
        """Return a predictor with a copy of the network."""
        still = copy.copy(self)
        still._model = copy.deepcopy(self._model).eval()
        return Predictor(still._probabilities)

    def state(self) -> State:
        """Return weights and moments: ``model.*``, and ``optimizer.*`` after the first batch.

        A running scale of vectors is ``inputs.*``.
        """
        weights = {f"{MODEL}{name}": tensor.contiguous() for name, tensor in self._model.state_dict().items()}
        scale = {} if self._scale is None else self._scale.tensors()
        inputs = {f"{INPUTS}{name}": tensor for name, tensor in scale.items()}
        return State(weights | inputs | moments(self._optimizer, self._parameters), {"seen": self._seen})

    def load_state(self, state: State) -> None:
        """Copy the weights and moments of ``state`` into this learner.

        Raises InvalidSetting for the weights of another network.
        """
        kept = {
            name.removeprefix(MODEL): tensor
            for name, tensor in state.tensors.items()
            if name.startswith(MODEL)
        }
        check_same(self._options.backbone, self._model, kept)
        if self._scale is not None:
            inputs = {n.removeprefix(INPUTS): t for n, t in state.tensors.items() if n.startswith(INPUTS)}
            self._scale = self._scale.loaded(inputs)
        self._seen = int(cast("int", state.values["seen"]))
        with torch.no_grad():
            for name, tensor in self._model.state_dict().items():
                tensor.copy_(kept[name])
        load_moments(self._optimizer, self._parameters, state.tensors)

    @torch.inference_mode()
    def _probabilities(self, x_BCHW: Tensor) -> Tensor:
        """Return the softmax of the scores of a network that is in eval mode."""
        return in_chunks(lambda x: self._model(self._floats(x)).softmax(1).cpu(), x_BCHW)

    def _floats(self, x_BCHW: Tensor) -> Tensor:
        """Return new float32 images in −1 … 1, or standardised vectors, on the device."""
        if self._scale is None:
            return as_floats(x_BCHW, self._device)
        return self._scale.standardised(x_BCHW).to(self._device, torch.float32)
