"""Fixed features as a torch module of ordinary operations, which can be exported.

The features of a service are computed on int8 by products, pieces and threads of their own. Here the same
whole numbers are computed in floating point that holds them exactly.

Shapes: B batch, C channels, H height, W width, N coefficients, D features.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lethe.learners.features.compression import LARGEST

__all__ = ["FeatureModule"]


class FeatureModule(nn.Module):
    """Returns features of uint8 images, float32 of shape [B, D], as `WaveletFeatures` computes them.

    ``indices`` returns where in the tables the coefficients are, [B, N]; ``logarithms`` is the table of the
    first ``linear`` ones, ``angles`` that by which a coefficient turns the ``waves``.
    """

    def __init__(
        self,
        indices: Callable[[Tensor], Tensor],
        logarithms: Tensor,
        linear: int,
        angles: Tensor,
        waves: nn.Module | None,
    ) -> None:
        super().__init__()
        self._indices, self._linear = indices, linear
        self.logarithms = nn.Buffer(logarithms.to(torch.float32))
        self.angles = nn.Buffer(angles.to(torch.float64))
        self.waves = waves

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the features of uint8 images."""
        index_BN = self._indices(x_BCHW).to(torch.int64)
        found = [self.logarithms[index_BN[:, : self._linear]]]
        if self.waves is not None:
            found.append(self.waves(self.angles[index_BN]))
        constant = torch.full_like(found[0][:, :1], LARGEST)
        return torch.cat([*found, constant], 1)
