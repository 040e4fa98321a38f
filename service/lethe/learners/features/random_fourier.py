"""Random Fourier features along random orthogonal directions, in whole numbers.

Shapes: B batch, C coefficients, n the power of two that C is filled up to, W waves, N transforms
that give them.
"""

from typing import Final

import torch
from torch import Tensor, nn

from lethe.learners.features.compression import COSINE_BITS, cosines
from lethe.learners.features.hadamard import hadamard_matrix, hadamard_transform
from lethe.learners.scripted import scripted

__all__ = ["TURN", "RandomFourierFeatures", "WaveTable"]

TURN: Final = 1 << 32
"""A whole turn, in units of an angle: int32 then wraps around as angles do."""
_FEW: Final = 4  # rows: with more of them, the sums of one step are contiguous enough to be fast
_ROUNDS: Final = 2


class RandomFourierFeatures:
    """cos(ωx + b) for W directions ω of equal length and phases b, drawn from a seed.

    Products of two samples' features approach a Gaussian kernel (Rahimi & Recht 2007, Random Features
    for Large-Scale Kernel Machines). The directions are the first rows of HD₂HD₁, one such product
    after the other, where D has random signs on its diagonal and H is the Hadamard matrix of n rows:
    orthogonal ones approach the kernel faster than independent ones do (Yu et al. 2016, Orthogonal
    Random Features).

    Their matrix is never stored: H is applied in n log₂ n steps (Le et al. 2013, Fastfood), to int32. Sums
    wrap around at a whole turn, which changes no cosine, so that angles are exact, and a table has the
    cosines. For few rows those steps are too small to be fast; H is then applied as the Kronecker product
    of two small matrices that it is, in float64, which holds all sums exactly: to the same result.
    """

    def __init__(
        self, coefficients: int, waves: int, generator: torch.Generator, device: torch.device
    ) -> None:
        self.length = 1 << max(0, coefficients - 1).bit_length()
        """Of a direction: n, since every sum in it has n entries of ±1."""
        blocks = -(-waves // self.length)
        signs = torch.randint(2, (_ROUNDS, blocks, self.length), generator=generator).mul(2).sub_(1)
        self._before, self._between = signs.to(device, torch.int32)
        columns = 1 << (self.length.bit_length() // 2)
        self._left = hadamard_matrix(self.length // columns).to(device, torch.float64)
        self._right = hadamard_matrix(columns).to(device, torch.float64)
        phases_W = torch.randint(TURN, (waves,), generator=generator)
        self._phases_W = phases_W.to(torch.int32).to(device)
        self._cosines = torch.tensor([round(c) for c in cosines()], dtype=torch.int8, device=device)
        self.count = waves
        """W."""

    def module(self) -> nn.Module:
        """Return the same features, on the CPU, as a torch module that can be exported.

        It takes the angles as float64, and returns float32.
        """
        signs = [signs.cpu() for signs in (self._before, self._between)]
        return _Waves(
            torch.stack(signs), self._left.cpu(), self._right.cpu(), self._phases_W.cpu(), self._cosines.cpu()
        )

    def __call__(self, angles_BC: Tensor) -> Tensor:
        """Return the cosines, int8 of shape [B, W] in units of 1/127.

        ``angles_BC`` (int32) are the angles by which each coefficient turns a wave, in units of `TURN`.
        """
        if len(angles_BC) <= _FEW:
            angles_BW = self._of_few(angles_BC)
        else:
            angles_BW = _angles_of_waves(angles_BC, self._before, self._between, self.count)
        index_BW = angles_BW.add_(self._phases_W).bitwise_right_shift_(32 - COSINE_BITS)
        index_BW.add_(1 << (COSINE_BITS - 1))
        return self._cosines.index_select(0, index_BW.reshape(-1)).view(index_BW.shape)

    def _of_few(self, angles_BC: Tensor) -> Tensor:
        batch, coefficients = angles_BC.shape
        x = nn.functional.pad(angles_BC, (0, self.length - coefficients))[:, None]
        for signs in (self._before, self._between):
            grid = (x * signs).to(torch.float64).view(-1, len(self._left), len(self._right))
            whole = (self._left @ (grid @ self._right)).to(torch.int64)  # up to 2³¹ n, exact below 2⁵³
            x = whole.view(batch, -1, self.length).to(torch.int32)
        return x.reshape(batch, -1)[:, : self.count].contiguous()


@scripted
def _angles_of_waves(angles_BC: Tensor, before_Nn: Tensor, between_Nn: Tensor, waves: int) -> Tensor:
    """Return the sums along each direction, int32 of shape [B, W], by the steps of N transforms."""
    batch, coefficients = angles_BC.shape
    blocks, length = before_Nn.shape
    angles_WB = angles_BC.new_empty([waves, batch])
    for block in range(blocks):
        angles_nB = angles_WB[block * length : (block + 1) * length]
        x_nB = angles_BC.new_zeros([length, batch])
        torch.mul(angles_BC.T, before_Nn[block, :coefficients, None], out=x_nB[:coefficients])
        x_nB = hadamard_transform(x_nB, length).mul_(between_Nn[block, :, None])
        angles_nB.copy_(hadamard_transform(x_nB, len(angles_nB)))
    return angles_WB.T.contiguous()


class _Waves(nn.Module):
    """`RandomFourierFeatures` in float64, which holds all angles exactly, modulo a whole turn."""

    def __init__(self, signs: Tensor, left: Tensor, right: Tensor, phases_W: Tensor, cosines: Tensor) -> None:
        super().__init__()
        self.signs = nn.Buffer(signs.to(torch.float64))
        self.left, self.right = nn.Buffer(left), nn.Buffer(right)
        self.waves = WaveTable(phases_W, cosines)

    def forward(self, angles_BC: Tensor) -> Tensor:
        batch, coefficients = angles_BC.shape
        _, blocks, length = self.signs.shape
        x = nn.functional.pad(angles_BC, (0, length - coefficients))[:, None]
        for signs in self.signs.unbind(0):
            grid = (x * signs).reshape(batch * blocks, self.left.shape[0], self.right.shape[0])
            x = _within_a_turn((self.left @ (grid @ self.right)).reshape(batch, blocks, length))
        waves_BW: Tensor = self.waves(x.reshape(batch, blocks * length)[:, : self.waves.count])
        return waves_BW


class WaveTable(nn.Module):
    """Returns the cosines of angles and phases, float32 in units of 1/127, for whole angles in float64."""

    def __init__(self, phases_W: Tensor, cosines: Tensor) -> None:
        super().__init__()
        self.count = len(phases_W)
        """W."""
        self.phases_W = nn.Buffer(phases_W.to(torch.float64))
        self.cosines = nn.Buffer(cosines.to(torch.float32))

    def forward(self, angles_BW: Tensor) -> Tensor:
        """Return the cosines, of shape [B, W]."""
        steps_BW = torch.floor(_within_a_turn(angles_BW + self.phases_W) / (TURN >> COSINE_BITS))
        index_BW = torch.remainder(steps_BW.to(torch.int64) + (1 << (COSINE_BITS - 1)), 1 << COSINE_BITS)
        return self.cosines[index_BW]


def _within_a_turn(angles: Tensor) -> Tensor:
    """Return whole numbers modulo `TURN`, in 0 … `TURN` − 1; each step is exact."""
    return angles - torch.floor(angles / TURN) * TURN
