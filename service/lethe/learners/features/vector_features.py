"""Fixed features of vectors: their standardised numbers and random Fourier features, in whole numbers.

Shapes: B batch, F numbers of a vector, W waves, D = F + W + 1 features.
"""

import math
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn

from lethe.learners.features.compression import COSINE_BITS, LARGEST, cosines
from lethe.learners.features.feature_map import FeatureMap
from lethe.learners.features.random_fourier import TURN, WaveTable
from lethe.learners.modules import Standardised
from lethe.learners.vector_scale import VectorScale

__all__ = ["LEVELS", "VectorFeatures"]

LEVELS: Final = 16
"""Whole numbers to a spread: int8 then holds eight spreads with both signs."""
_RADIANS: Final = 1.5  # of a random direction, in radians per root mean square of the standardised numbers
_WAVES_PER_NUMBER: Final = 64
_DRAWS: Final = 12  # uniform numbers to an approximately Gaussian one, of variance 1
_BITS: Final = 16  # of a uniform number


class VectorFeatures(FeatureMap):
    """The standardised numbers of a vector, cos(ωz + b) for W directions ω and phases b, and a constant.

    The products of random Fourier features approach a Gaussian kernel of the standardised vectors z, of width
    √F / 1.5: `RandomFourierFeatures`, whose orthogonal directions are too alike for vectors of few numbers.
    Here every direction is drawn by itself.

    z is rounded to sixteenths of a spread. Directions are whole numbers, too; their sums are exact in
    float64, an angle wraps around at a whole turn, and a table has the cosines. So features are the same in
    any batch, with any number of threads and on every machine.
    """

    def __init__(self, scale: VectorScale, seed: int, waves: int, device: torch.device) -> None:
        """``waves`` random features are drawn, but at most 64 for each number."""
        self._scale, self._device = scale, device
        numbers, waves = len(scale.location_F), min(waves, _WAVES_PER_NUMBER * len(scale.location_F))
        generator = torch.Generator().manual_seed(seed)
        unit = TURN * _RADIANS / (2 * math.pi * LEVELS * math.sqrt(numbers))
        gaussian_FW = torch.zeros(numbers, waves, dtype=torch.int64)
        for _ in range(_DRAWS):  # torch's own Gaussian numbers depend on the machine in their last bits
            gaussian_FW += torch.randint(1 << _BITS, (numbers, waves), generator=generator)
        gaussian_FW = 2 * gaussian_FW - _DRAWS * ((1 << _BITS) - 1)
        directions_FW = (gaussian_FW.to(torch.float64) * (unit / (2 << _BITS))).round()
        self._directions_FW = directions_FW.to(device)
        self._phases_W = torch.randint(TURN, (waves,), generator=generator).to(device)
        self._cosines = torch.tensor([round(c) for c in cosines()], dtype=torch.int8, device=device)
        self.count = numbers + waves + 1
        self.scales = torch.full((self.count,), 1 / LARGEST, dtype=torch.float64, device=device)
        self.scales[:numbers] = 1 / LEVELS

    def __call__(self, x_BF: Tensor) -> Tensor:
        """Return features, int8 of shape [B, D], on the device, for float32 vectors."""
        levels_BF = self.levels(x_BF).to(self._device)
        angles_BW = (levels_BF @ self._directions_FW).to(torch.int64).add_(self._phases_W)
        index_BW = angles_BW.add_(TURN // 2).remainder_(TURN)
        index_BW = index_BW.bitwise_right_shift_(32 - COSINE_BITS)
        waves_BW = self._cosines.index_select(0, index_BW.reshape(-1)).view(index_BW.shape)
        constant_B1 = waves_BW.new_full((len(waves_BW), 1), LARGEST)
        return torch.cat((levels_BF.to(torch.int8), waves_BW, constant_B1), 1)

    def levels(self, x_BF: Tensor) -> Tensor:
        """Return the standardised numbers in sixteenths of a spread, float64 of [B, F], on the CPU."""
        return self._scale.standardised(x_BF).mul_(LEVELS).round_().clamp_(-LARGEST, LARGEST)

    def module(self) -> nn.Module:
        """Return the same features, on the CPU, as a torch module that can be exported."""
        return _VectorModule(
            self._scale.module(), self._directions_FW.cpu(), self._phases_W.cpu(), self._cosines.cpu()
        )

    @property
    def settled(self) -> bool:
        """Whether the scale is known."""
        return self._scale.known

    @property
    def shared(self) -> bool:
        """Whether the scale was given, and so is that of every learner with these options."""
        return self._scale.given

    def settle(self, x_BF: Tensor) -> None:
        """Estimate the scale from a first batch, unless it is known."""
        if not self._scale.known:
            self._scale = self._scale.after(x_BF).rounded()

    def tensors(self) -> Mapping[str, Tensor]:
        """Return an estimated scale, as int64 with its bits: what sums depend on is whole numbers alone."""
        return {name: tensor.view(torch.int64) for name, tensor in self._scale.tensors().items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over an estimated scale."""
        if not self._scale.given:
            numbers = {name: tensors[name].view(torch.float64) for name in ("location", "spread")}
            self._scale = self._scale.loaded({**tensors, **numbers})


class _VectorModule(nn.Module):
    """`VectorFeatures` in float64, which holds all angles exactly, modulo a whole turn."""

    def __init__(
        self, standardised: Standardised, directions_FW: Tensor, phases_W: Tensor, cosines: Tensor
    ) -> None:
        super().__init__()
        self.standardised = standardised
        self.directions = nn.Buffer(directions_FW)
        self.waves = WaveTable(phases_W, cosines)

    def forward(self, x_BF: Tensor) -> Tensor:
        levels_BF = (self.standardised(x_BF) * LEVELS).round().clamp(-LARGEST, LARGEST)
        waves_BW = self.waves(levels_BF @ self.directions)
        constant_B1 = torch.full_like(waves_BW[:, :1], LARGEST)
        return torch.cat((levels_BF.to(torch.float32), waves_BW, constant_B1), 1)
