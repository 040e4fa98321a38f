"""A network as a function of one vector of weights, with its layers in the order of a forward pass.

Shapes: B batch, C channels, H height, W width, K classes, N images, F features of a layer, V weights.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lethe.learners.gradient.backbones import as_floats, blank, build
from lethe.learners.state import State
from lethe.probeset import ProbeSet
from lethe.wire import Layout

__all__ = ["CHUNK", "Images", "Network", "model_weights"]

CHUNK: Final = 50
"""Images of one forward pass: their feature maps fit into a core's cache."""
_PREFIX: Final = "model."
"""Prefix of the network's weights in the state of a gradient learner."""


def model_weights(state: State) -> dict[str, Tensor]:
    """Return the network's weights in the state of a gradient learner, by their name in the network."""
    return {
        name.removeprefix(_PREFIX): tensor
        for name, tensor in state.tensors.items()
        if name.startswith(_PREFIX)
    }


@dataclass(frozen=True, slots=True)
class Images:
    """Images of a probe, float32 in −1 … 1, or its standardised vectors, with their labels."""

    name: str
    x_NCHW: Tensor
    y_N: Tensor

    @classmethod
    def of(cls, probe: ProbeSet, count: int | None = None) -> "Images":
        """Return the first ``count`` images of ``probe``, or of its vectors, which are standardised."""
        x_NCHW = torch.tensor(probe.x_NCHW[:count])
        if not x_NCHW.is_floating_point():
            x_NCHW = as_floats(x_NCHW, torch.device("cpu"))
        return cls(probe.name, x_NCHW, torch.tensor(probe.y_N[:count]))

    def chunks(self, size: int = CHUNK) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and labels, at most ``size`` at a time."""
        return zip(torch.split(self.x_NCHW, size), torch.split(self.y_N, size), strict=True)


@dataclass(frozen=True, slots=True)
class Measured:
    """Mean cross entropy in nats, and accuracy."""

    loss: float
    accuracy: float


class Network:
    """A network in eval mode; a vector of shape [V] holds its parameters and floating-point buffers.

    A *layer* is a module with parameters of its own. Layers are in the order in which a forward pass calls
    them, those that it does not call are left out.
    """

    def __init__(self, backbone: str, layout: Layout) -> None:
        """Build the network that the option ``backbone`` of a gradient learner names.

        Raises InvalidSetting as `build`.
        """
        self._model = build(backbone, layout, seed=0).eval()
        weights = self._model.state_dict()
        self._shapes = {name: t.shape for name, t in weights.items() if t.is_floating_point()}
        self._fixed = {name: t for name, t in weights.items() if name not in self._shapes}
        self.layers = self._called(layout)

    def _called(self, layout: Layout) -> tuple[str, ...]:
        called: dict[str, None] = {}
        kept = [
            module.register_forward_hook(lambda *_, name=name: called.setdefault(name))
            for name, module in self._modules()
        ]
        with torch.inference_mode():
            self._model(blank(layout, 2))
        for hook in kept:
            hook.remove()
        return tuple(called)

    def _modules(self) -> list[tuple[str, nn.Module]]:
        return [
            (name, module)
            for name, module in self._model.named_modules()
            if next(module.parameters(recurse=False), None) is not None
        ]

    def title(self, layer: str) -> str:
        """Return the name of a layer with its kind and the shape of its weights."""
        module = self._model.get_submodule(layer)
        shape = "×".join(map(str, next(module.parameters(recurse=False)).shape))
        return f"{layer} {type(module).__name__} {shape}"

    def flatten(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Return named weights as one vector, float32 [V], a copy."""
        return torch.cat([weights[name].detach().float().reshape(-1).cpu() for name in self._shapes])

    def named(self, vector_V: Tensor) -> dict[str, Tensor]:
        """Return the weights of a vector by name, as views."""
        parts = torch.split(vector_V, [shape.numel() for shape in self._shapes.values()])
        return {
            name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }

    def of_layer(self, vector_V: Tensor, layer: str) -> Tensor:
        """Return the weights of one layer as a vector."""
        parts = [tensor for name, tensor in self.named(vector_V).items() if _owner(name) == layer]
        return torch.cat([part.reshape(-1) for part in parts])

    def scores(self, vector_V: Tensor, x_BCHW: Tensor) -> Tensor:
        """Return the scores of images, [B, K]."""
        scores_BK: Tensor = functional_call(self._model, self.named(vector_V) | self._fixed, (x_BCHW,))
        return scores_BK

    @torch.inference_mode()
    def measure(self, vector_V: Tensor, images: Images) -> Measured:
        """Return loss and accuracy on ``images``."""
        loss, correct = 0.0, 0
        for x_BCHW, y_B in images.chunks():
            scores_BK = self.scores(vector_V, x_BCHW)
            loss += nn.functional.cross_entropy(scores_BK, y_B, reduction="sum").item()
            correct += int((scores_BK.argmax(1) == y_B).sum())
        return Measured(loss / len(images.y_N), correct / len(images.y_N))

    @torch.inference_mode()
    def predict(self, vector_V: Tensor, images: Images) -> Tensor:
        """Return the predicted classes, int64 [N]."""
        return torch.cat([self.scores(vector_V, x_BCHW).argmax(1) for x_BCHW, _ in images.chunks()])

    @torch.inference_mode()
    def features(self, vector_V: Tensor, images: Images) -> Tensor:
        """Return what the last layer is given of each image, float32 [N, F]."""
        with self._hooked(self.layers[-1], lambda given, _: given) as seen:
            return torch.cat([self._seen(vector_V, x_BCHW, seen) for x_BCHW, _ in images.chunks()])

    @torch.inference_mode()
    def activations(self, vector_V: Tensor, layer: str, x_BCHW: Tensor) -> Tensor:
        """Return what a layer makes of each image, float32 [B, F]."""
        with self._hooked(layer, lambda _, made: made) as seen:
            return self._seen(vector_V, x_BCHW, seen)

    def _seen(self, vector_V: Tensor, x_BCHW: Tensor, seen: list[Tensor]) -> Tensor:
        seen.clear()
        self.scores(vector_V, x_BCHW)
        return seen[0].flatten(1)

    @contextmanager
    def _hooked(self, layer: str, pick: Callable[[Tensor, Tensor], Tensor]) -> Iterator[list[Tensor]]:
        seen: list[Tensor] = []

        def hook(_: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
            seen.append(pick(given[0], made))

        handle = self._model.get_submodule(layer).register_forward_hook(hook)
        try:
            yield seen
        finally:
            handle.remove()

    def stitched(self, below_V: Tensor, above_V: Tensor, cut: int) -> Tensor:
        """Return the first ``cut`` layers of ``below_V`` with the others of ``above_V``, as a vector."""
        lower = set(self.layers[:cut])
        above = self.named(above_V)
        below = self.named(below_V)
        return self.flatten({n: below[n] if _owner(n) in lower else above[n] for n in self._shapes})


def _owner(weight: str) -> str:
    return weight.rpartition(".")[0]
