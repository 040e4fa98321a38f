"""Generative replay: a model of the images stands in for the samples that are not kept.

Shapes: B batch, C channels, H height, W width, K classes, M replayed images, Z latent numbers.
"""

from copy import deepcopy
from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from service.learners.autoencoder import Autoencoder
from service.learners.base import LearnerContext, Retention, State
from service.learners.gradient import GradientLearner, GradientOptions, Step
from service.learners.lagged import Lagged
from service.learners.optimizers import load_moments, moments

__all__ = ["GenerativeReplay", "GenerativeReplayOptions"]


class GenerativeReplayOptions(GradientOptions):
    """The generator, and how much of what it makes is learned."""

    replayed: int = Field(default=64, ge=1)
    """Images that the scholar makes for each batch."""
    latent: int = Field(default=32, ge=1)
    """Numbers that an image is made from."""
    generator_lr: float = Field(default=4e-3, gt=0)
    """Learning rate of the generator, which Adam trains."""
    lag: int = Field(default=2048, ge=0)
    """Samples within which a boundary is noticed; 0 for boundaries that are told in time."""


class GenerativeReplay(GradientLearner):
    """A scholar, the network and its generator of before the last boundary, teaches both of today.

    The generator is an `Autoencoder`. With each batch the scholar's makes M images and the scholar's
    network says what they are; the network of today learns them beside the batch, and the generator
    of today too, so that the scholar after the next boundary knows all regimes. Before the first
    boundary there is no scholar.

    It keeps no sample, but its generator can draw images like those it has seen. It keeps each
    network four times: today's, the scholar's, and two copies of a while ago. A step costs four of
    finetune's before the first boundary, seven after.
    """

    name: ClassVar[str] = "generative-replay"
    retains: ClassVar[Retention] = Retention.GENERATIVE
    summary: ClassVar[str] = "a generator of images like the past ones, which are learned beside the new"
    paper: ClassVar[str] = "Shin et al. 2017, Continual Learning with Deep Generative Replay"
    Options: ClassVar[type[GenerativeReplayOptions]] = GenerativeReplayOptions
    _options: GenerativeReplayOptions

    def __init__(self, context: LearnerContext) -> None:
        super().__init__(context)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            self._generator = Autoencoder(context.layout, self._options.latent).to(context.device)
        self._generated = {f"generator.{name}": p for name, p in self._generator.named_parameters()}
        self._adam = torch.optim.Adam(self._generated.values(), lr=self._options.generator_lr, fused=True)
        self._scholar_network = deepcopy(self._model).eval().requires_grad_(False)
        self._scholar_generator = deepcopy(self._generator).requires_grad_(False)
        self._taught = False
        self._lagged = Lagged(_tensors(self._model, self._generator), self._options.lag)

    def boundary(self) -> None:
        """Make a scholar of network and generator as they were before the boundary."""
        before = self._lagged.before()
        if before is not None:
            for name, tensor in self._scholar().items():
                tensor.copy_(before[name])
            self._taught = True
        self._lagged.restart(self._seen)

    def _objective(self, step: Step) -> Tensor:
        """Return the cross entropy of batch and replay, plus the generator's loss on both."""
        if not self._taught:
            return step.loss + self._generator.loss(step.x_BCHW, self._noise("encode", len(step.x_BCHW)))
        with torch.no_grad():
            replayed_MCHW = self._scholar_generator.draw(self._noise("draw", self._options.replayed))
            taught_MK = self._scholar_network(replayed_MCHW).softmax(1)
        both = torch.cat([step.x_BCHW, replayed_MCHW])
        return (
            step.loss
            + nn.functional.cross_entropy(self._model(replayed_MCHW), taught_MK)
            + self._generator.loss(both, self._noise("encode", len(both)))
        )

    def _noise(self, purpose: str, count: int) -> Tensor:
        return torch.randn(count, self._options.latent, generator=self._dice(purpose)).to(self._device)

    def _scholar(self) -> dict[str, Tensor]:
        return _tensors(self._scholar_network, self._scholar_generator)

    def _after_step(self, _: Step) -> None:
        self._adam.step()
        self._adam.zero_grad()
        self._lagged.saw(self._seen)

    def state(self) -> State:
        """Return also the generator, its moments, the scholar and the copies of a while ago."""
        state = super().state()
        tensors = {name: p.detach().contiguous() for name, p in self._generated.items()}
        tensors |= {f"scholar.{name}": t.contiguous() for name, t in self._scholar().items()}
        tensors |= moments(self._adam, self._generated) | self._lagged.tensors()
        values = {"taught": self._taught, **self._lagged.values()}
        return State({**state.tensors, **tensors}, {**state.values, **values})

    def load_state(self, state: State) -> None:
        """Copy all of ``state`` into this learner."""
        super().load_state(state)
        with torch.no_grad():
            for name, parameter in self._generated.items():
                parameter.copy_(state.tensors[name])
            for name, tensor in self._scholar().items():
                tensor.copy_(state.tensors[f"scholar.{name}"])
        load_moments(self._adam, self._generated, state.tensors)
        self._taught = cast("bool", state.values["taught"])
        self._lagged.load(state)


def _tensors(network: nn.Module, generator: nn.Module) -> dict[str, Tensor]:
    """Return all weights of a pair, under names of their own."""
    pair = {"network": network, "generator": generator}
    return {f"{part}.{name}": t for part, module in pair.items() for name, t in module.state_dict().items()}
