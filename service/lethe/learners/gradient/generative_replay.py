"""Generative replay: images drawn from a generator are rehearsed instead of stored samples.

Shapes: B batch, C channels, H height, W width, K classes, M replayed images, Z latent numbers.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from lethe.learners.base import LearnerContext, Retention
from lethe.learners.gradient.autoencoder import Autoencoder
from lethe.learners.gradient.averaged import AveragedLearner
from lethe.learners.gradient.base import GradientOptions, Step
from lethe.learners.gradient.lagged import LaggedSnapshots
from lethe.learners.gradient.optimizers import load_moments, moments
from lethe.learners.state import State

__all__ = ["GenerativeReplay", "GenerativeReplayOptions"]


class GenerativeReplayOptions(GradientOptions):
    """The generator, and how many of its images are rehearsed."""

    replayed: int = Field(default=64, ge=1)
    """Images that the scholar generates for each batch."""
    latent: int = Field(default=32, ge=1)
    """Size of the latent vector of an image."""
    generator_lr: float = Field(default=4e-3, gt=0)
    """Learning rate of Adam for the generator."""
    lag: int = Field(default=2048, ge=0)
    """Samples within which a boundary is detected; 0 for boundaries that are known in advance."""


class GenerativeReplay(AveragedLearner):
    """Learns, beside each batch, images generated and labelled by a scholar.

    The scholar is the pair of network and generator, an `Autoencoder`, as they were before the last
    boundary. With each batch its generator draws M images and its network labels them; the current network
    and the current generator learn them beside the batch, so that the next scholar covers all regimes.
    Before the first boundary there is no scholar.

    It stores no sample, but its generator can draw images like those it has seen. State: four copies of each
    network, namely the current one, the scholar's and two snapshots. A step costs four of finetune's before
    the first boundary, seven after it.
    """

    name: ClassVar[str] = "generative-replay"
    retains: ClassVar[Retention] = Retention.GENERATIVE
    summary: ClassVar[str] = "a network that rehearses images drawn from a generative model of the past"
    paper: ClassVar[str] = "Shin et al. 2017, Continual Learning with Deep Generative Replay"
    Options: ClassVar[type[GenerativeReplayOptions]] = GenerativeReplayOptions
    _options: GenerativeReplayOptions

    def __init__(self, context: LearnerContext) -> None:
        if context.layout.features is not None:
            raise ValueError(
                "its generator draws images, and the samples are vectors (sample.features): use lwf or"
                " ewc, which also store none, or replay"
            )
        super().__init__(context)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            self._generator = Autoencoder(context.layout, self._options.latent).to(context.device)
        self._generated = {f"generator.{name}": p for name, p in self._generator.named_parameters()}
        self._adam = torch.optim.Adam(self._generated.values(), lr=self._options.generator_lr, fused=True)
        self._scholar_network = deepcopy(self._model).eval().requires_grad_(False)
        self._scholar_generator = deepcopy(self._generator).requires_grad_(False)
        self._has_scholar = False
        self._lagged = LaggedSnapshots(lambda: _tensors(self._model, self._generator), self._options.lag)

    def boundary(self) -> None:
        """Make the network and the generator from before the boundary the scholar."""
        before = self._lagged.before()
        if before is not None:
            for name, tensor in self._scholar().items():
                tensor.copy_(before[name])
            self._has_scholar = True
        self._lagged.restart(self._seen)

    def _objective(self, step: Step) -> Tensor:
        """Return the cross entropy of batch and replay, plus the generator's loss on both."""
        if not self._has_scholar:
            return step.loss + self._generator.loss(step.x_BCHW, self._noise("encode", len(step.x_BCHW)))
        with torch.no_grad():
            replayed_MCHW = self._scholar_generator.draw(self._noise("draw", self._options.replayed))
            target_MK = self._scholar_network(replayed_MCHW).softmax(1)
        both = torch.cat([step.x_BCHW, replayed_MCHW])
        return (
            step.loss
            + nn.functional.cross_entropy(self._training_scores(replayed_MCHW), target_MK)
            + self._generator.loss(both, self._noise("encode", len(both)))
        )

    @property
    def _trained(self) -> Sequence[nn.Parameter]:
        return [*self._parameters.values(), *self._generated.values()]

    def _noise(self, purpose: str, count: int) -> Tensor:
        return torch.randn(count, self._options.latent, generator=self._derived_generator(purpose)).to(
            self._device
        )

    def _scholar(self) -> dict[str, Tensor]:
        return _tensors(self._scholar_network, self._scholar_generator)

    def _after_step(self, _: Step) -> None:
        self._adam.step()
        self._lagged.saw(self._seen)

    def state(self) -> State:
        """Return also the generator, its moments, the scholar and the snapshots."""
        state = super().state()
        tensors = {name: p.detach().contiguous() for name, p in self._generated.items()}
        tensors |= {f"scholar.{name}": t.contiguous() for name, t in self._scholar().items()}
        tensors |= moments(self._adam, self._generated) | self._lagged.tensors()
        values = {"taught": self._has_scholar, **self._lagged.values()}
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
        self._has_scholar = cast("bool", state.values["taught"])
        self._lagged.load(state)


def _tensors(network: nn.Module, generator: nn.Module) -> dict[str, Tensor]:
    """Return all weights of a pair, under distinct names."""
    pair = {"network": network, "generator": generator}
    return {f"{part}.{name}": t for part, module in pair.items() for name, t in module.state_dict().items()}
