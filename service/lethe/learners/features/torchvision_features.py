"""Fixed features from the frozen body of a torchvision model, whose weights come from a local file.

Shapes: B batch, C channels, H height, W width, F numbers of the body, D features.
"""

import copy
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lethe.errors import InvalidSetting
from lethe.learners.features.feature_map import FeatureMap
from lethe.learners.features.vector_features import VectorFeatures
from lethe.learners.parallel import share
from lethe.learners.vector_scale import VectorScale

__all__ = ["PREFIX", "TorchvisionFeatures"]

PREFIX: Final = "torchvision:"
"""Beginning of the option ``features`` that names a model."""
_MEAN: Final = (0.485, 0.456, 0.406)  # of the pixels on which torchvision's weights were trained
_DEVIATION: Final = (0.229, 0.224, 0.225)
_SHOWN: Final = 3
_DIGEST: Final = "body"


class TorchvisionFeatures(FeatureMap):
    """What the last layer of a torchvision model is given, random Fourier features of it, and a constant.

    The model classifies no more: its last linear layer is left out, the rest is frozen. Its numbers are
    rounded to sixteenths and clipped at ±8, on a scale that is fixed, so that sums of features are whole
    numbers; random features of them separate classes that a linear layer does not (McDonnell et al. 2023,
    RanPAC: Random Projections and Pre-trained Models for Continual Learning).

    Each image goes through the body by itself, on one thread, so its features are the same in any batch and
    with any number of threads. On a machine of another kind, or with another version of torch, floating point
    may round one of them to the next sixteenth: `Unlearns` and `Merges` are exact on machines of one kind.

    A state holds the SHA-256 of the weights, and is refused with others.
    """

    other: ClassVar[str] = "learner.options.weights: the states are of models with other weights"

    def __init__(
        self, model: str, weights: Path, side: int, seed: int, waves: int, device: torch.device
    ) -> None:
        """``side`` is the pixels a side to which images are scaled; ``waves`` those of `VectorFeatures`.

        Raises InvalidSetting for a model that torchvision does not have, and weights that are not its own.
        """
        self._body, self._device = _Body(model, weights, side).to(device), device
        digest = sha256(weights.read_bytes()).digest()
        self._digest = torch.frombuffer(bytearray(digest), dtype=torch.int64)
        with torch.inference_mode():
            numbers = self._body(torch.zeros(1, 3, side, side, dtype=torch.uint8, device=device)).shape[1]
        zeros_F = torch.zeros(numbers, dtype=torch.float64)
        self._vectors = VectorFeatures(VectorScale(zeros_F, zeros_F + 1, given=True), seed, waves, device)
        self._numbers = numbers
        self.count, self.scales = self._vectors.count, self._vectors.scales

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        """Return features, int8 of shape [B, D], on the device, for uint8 images."""
        body_BF = torch.empty(len(x_BCHW), self._numbers)

        def compute(place: int) -> None:
            with torch.inference_mode():
                body_BF[place] = self._body(x_BCHW[place : place + 1].to(self._device))[0].cpu()

        share(compute, range(len(x_BCHW)))
        return self._vectors(body_BF)

    def module(self) -> nn.Module:
        """Return the body and its features, on the CPU, as a torch module that can be exported.

        Where it computes a number of the body otherwise than this does, in a batch or by another library, the
        last bits differ: one that is close to the middle of two sixteenths can be rounded to the other.
        """
        return nn.Sequential(copy.deepcopy(self._body).cpu(), self._vectors.module())

    def tensors(self) -> Mapping[str, Tensor]:
        """Return the SHA-256 of the weights, on which all sums depend."""
        return {_DIGEST: self._digest}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Raise InvalidSetting unless ``tensors`` are of these weights."""
        if _DIGEST not in tensors or not torch.equal(tensors[_DIGEST].cpu(), self._digest):
            raise InvalidSetting(
                "learner.options.weights: the file is not the one that the checkpoint was learned with; "
                "--fresh starts over"
            )


class _Body(nn.Module):
    """A model of torchvision without its last linear layer, for uint8 images of any size."""

    def __init__(self, model: str, weights: Path, side: int) -> None:
        super().__init__()
        self._side = side
        self.model = _without_head(model, weights)
        self.mean = nn.Buffer(torch.tensor(_MEAN)[:, None, None])
        self.deviation = nn.Buffer(torch.tensor(_DEVIATION)[:, None, None])

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = x_BCHW.to(torch.float32) / 255
        if x_BCHW.shape[2:] != (self._side, self._side):
            size = (self._side, self._side)
            x_BCHW = nn.functional.interpolate(x_BCHW, size, mode="bilinear", antialias=True)
        numbers: Tensor = self.model((x_BCHW - self.mean) / self.deviation)  # grey is each of three channels
        return numbers.flatten(1)


def _without_head(name: str, weights: Path) -> nn.Module:
    """Return the model with these weights, frozen, without its last linear layer."""
    import torchvision  # takes a second to import

    with torch.random.fork_rng(devices=[]):
        try:
            model: nn.Module = torchvision.models.get_model(name, weights=None)
        except ValueError as error:
            raise InvalidSetting(f"learner.options.features: torchvision has no model {name!r}") from error
    linear = [part for part, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise InvalidSetting(f"learner.options.features: {name} has no linear layer to leave out")
    head, _, attribute = linear[-1].rpartition(".")
    setattr(model.get_submodule(head), attribute, nn.Identity())
    _load(model, _read(weights), f"{linear[-1]}.", name, weights)
    return model.eval().requires_grad_(False)


def _read(weights: Path) -> Mapping[str, Any]:
    try:
        if weights.suffix == ".safetensors":
            return load_file(weights)
        found = torch.load(weights, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError) as error:
        raise InvalidSetting(f"learner.options.weights: {weights} cannot be read: {error}") from error
    except Exception as error:  # torch's reader names what it refuses by an error of pickle
        raise InvalidSetting(
            f"learner.options.weights: {weights} is not a file of tensors alone: {type(error).__name__}"
        ) from error
    if not isinstance(found, Mapping):
        raise InvalidSetting(f"learner.options.weights: {weights} holds no state dict")
    return found


def _load(model: nn.Module, found: Mapping[str, Any], head: str, name: str, weights: Path) -> None:
    own = model.state_dict()
    given = {part: tensor for part, tensor in found.items() if not part.startswith(head)}
    wrong = [
        part
        for part in own | given
        if part not in own
        or not isinstance(given.get(part), Tensor)
        or given[part].shape != own[part].shape
        or not given[part].isfinite().all()
    ]
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise InvalidSetting(
            f"learner.options.weights: {weights} are not finite weights of {name}: missing, unknown or of "
            f"another shape are {', '.join(map(str, wrong[:_SHOWN]))}{more}"
        )
    model.load_state_dict(given)
