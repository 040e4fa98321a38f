"""Helpers of the contract checks: synthetic batches, trained learners, exact comparisons."""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from lethe.errors import InvalidSetting
from lethe.learners.base import Learner, LearnerContext
from lethe.learners.state import JSON, State
from lethe.wire import Layout

__all__ = [
    "CONTEXT",
    "IMAGES",
    "SIZES",
    "Batch",
    "Factory",
    "Material",
    "batch",
    "frozen",
    "generator",
    "global_generators",
    "require",
    "require_learn_alike",
    "require_plain",
    "require_same_state",
    "through_files",
    "vectors_for",
]

Factory = Callable[[LearnerContext], Learner]
Batch = tuple[Tensor, Tensor]

CONTEXT: Final = LearnerContext(Layout(height=8, width=8, classes=4), seed=1)
SIZES: Final = (32, 1, 7, 64)


def require(holds: bool, otherwise: str) -> None:
    """Raise AssertionError, which ``python -O`` does not remove, unless ``holds``."""
    if not holds:
        raise AssertionError(otherwise)


def require_plain(tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Require a tensor of this shape and type, on the CPU and without a graph."""
    require(tensor.shape == shape, f"the shape is {tuple(tensor.shape)}, not {tuple(shape)}")
    require(tensor.dtype == dtype, f"the type is {tensor.dtype}, not {dtype}")
    require(tensor.device.type == "cpu", "the tensor is not on the CPU")
    require(not tensor.requires_grad, "the tensor requires a gradient")


def require_same_state(one: Learner, other: Learner) -> None:
    """Require equal states, bit for bit."""
    (values, tensors), (other_values, other_tensors) = frozen(one.state()), frozen(other.state())
    require(values == other_values, f"values {values} and {other_values} differ")
    require(set(tensors) == set(other_tensors), "the states have different tensors")
    unlike = [name for name, bits in tensors.items() if bits != other_tensors[name]]
    require(not unlike, f"tensors {', '.join(unlike)} differ")


def require_learn_alike(one: Learner, other: Learner, x_BCHW: Tensor, y_B: Tensor) -> None:
    """Let both learn the batch, and require identical results."""
    learned, same = one.learn(x_BCHW, y_B), other.learn(x_BCHW, y_B)
    require(torch.equal(learned.predicted_B, same.predicted_B), "what learn predicted differs")
    require(learned.loss == same.loss, f"losses {learned.loss} and {same.loss} differ")


@dataclass(frozen=True, slots=True)
class Material:
    """The samples that a check uses: those of ``context``'s layout that ``batch`` returns."""

    context: LearnerContext
    batch: Callable[[int, int], Batch]
    """Returns as many samples as its first argument says, drawn from a seed, its second."""

    def batches(self, sizes: Sequence[int]) -> Iterator[Batch]:
        """Return a batch of each size, every one with another seed."""
        return (self.batch(size, seed) for seed, size in enumerate(sizes))

    def trained(
        self, factory: Factory, context: LearnerContext | None = None, sizes: Sequence[int] = SIZES
    ) -> Learner:
        """Return a learner that has learned a batch of each size."""
        learner = factory(context or self.context)
        for x_BCHW, y_B in self.batches(sizes):
            learner.learn(x_BCHW, y_B)
        return learner


def batch(size: int, seed: int) -> Batch:
    """Return 8×8 images of four classes, one corner each."""
    drawn = generator(seed)
    y_B = torch.randint(4, (size,), generator=drawn)
    corners_BCHW = torch.nn.functional.one_hot(y_B, 4).view(size, 1, 2, 2)
    bright_BCHW = 120 * corners_BCHW.repeat_interleave(4, 2).repeat_interleave(4, 3)
    noise_BCHW = torch.randint(136, (size, 1, 8, 8), generator=drawn)
    return (bright_BCHW + noise_BCHW).to(torch.uint8), y_B


def vectors(size: int, seed: int) -> Batch:
    """Return vectors of eight numbers, of which each of four classes has two large ones."""
    drawn = generator(seed)
    y_B = torch.randint(4, (size,), generator=drawn)
    lit_BF = torch.nn.functional.one_hot(y_B, 4).repeat(1, 2) * 4.0
    noise_BF = torch.randint(-128, 129, (size, 8), generator=drawn) / 128
    return 64 * (lit_BF + noise_BF), y_B


IMAGES: Final = Material(CONTEXT, batch)
VECTORS: Final = Material(LearnerContext(Layout(features=8, classes=4), seed=1), vectors)


def vectors_for(factory: Factory) -> Material | None:
    """Return vectors that the learners of ``factory`` take, with a given scale if they need one, or None."""
    given: dict[str, JSON] = {"location": 0.0, "spread": 64.0}
    nothing: dict[str, JSON] = {}
    for options in (nothing, given):
        context = replace(VECTORS.context, options=options)
        try:
            factory(context)
        except (ValueError, InvalidSetting):
            continue
        return Material(context, vectors)
    return None


def generator(seed: int) -> torch.Generator:
    """Return a generator of random numbers."""
    return torch.Generator().manual_seed(seed)


def through_files(state: State) -> State:
    """Return ``state`` as it comes back from a checkpoint."""
    values = json.loads(json.dumps(dict(state.values), allow_nan=False))
    tensors = {name: tensor.clone() for name, tensor in state.tensors.items()}  # two may share memory
    return State(load(save(tensors)), values, load(save(dict(state.solved))))


def frozen(state: State) -> tuple[str, dict[str, bytes]]:
    """Return a copy of ``state`` that equals another only if every bit does."""
    tensors = {name: tensor.cpu().numpy().tobytes() for name, tensor in state.tensors.items()}
    return json.dumps(dict(state.values), sort_keys=True), tensors


def global_generators() -> tuple[bytes, str, object]:
    """Return the states of the global random number generators."""
    return torch.get_rng_state().numpy().tobytes(), repr(np.random.get_state()), random.getstate()
