"""Mean and covariance of a regime's thumbnails, by which its batches are recognised.

Shapes: B batch, C channels, H height, W width, F numbers of a vector, S numbers of a thumbnail.
"""

import math
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn

from lethe.learners.features.compression import logarithms
from lethe.learners.features.vector_features import VectorFeatures
from lethe.wire import Layout

__all__ = ["PIXELS", "UNIT", "ThumbnailStatistics", "Thumbnails", "VectorThumbnails"]

_SIDE: Final = 7
PIXELS: Final = _SIDE**2
"""S of images; the most of vectors."""
UNIT: Final = 4000
"""The thumbnail of the largest brightness."""
_LEVELS: Final = 16 * 255  # of brightness
_EXCESS: Final = 2.0  # of T² over S above 1, for S of images
_FLOOR: Final = 0.01  # of the mean variance: keeps the weight of pixels that are always dark finite


class Thumbnails:
    """Computes 7×7 thumbnails of images, log(1 + 10 · brightness) in whole numbers."""

    size: Final = PIXELS
    """S."""

    def __init__(self, layout: Layout) -> None:
        self._rows, self._columns = _areas(layout.height), _areas(layout.width)
        self._sizes = self._rows.sum(1)[:, None] * self._columns.sum(1) * layout.channels
        table = [round(entry) for entry in logarithms(_LEVELS, 1.0, UNIT)]
        self._logarithms = torch.tensor(table, dtype=torch.float64)

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        """Return thumbnails of uint8 images: whole numbers in float64, of shape [B, S], on the CPU."""
        sums_BHW = x_BCHW.to(torch.float64).sum(1)
        areas_B77 = self._rows @ sums_BHW @ self._columns.T  # whole numbers, exact below 2⁵³
        index_B77 = areas_B77.div_(self._sizes).mul_(_LEVELS / 255).floor_().to(torch.int64)
        return self._logarithms[index_B77].flatten(1).cpu()


def _areas(side: int) -> Tensor:
    """Return which pixels are in each of the areas of a side, 0 or 1, float64 of shape [7, side].

    Areas are of equal size up to a pixel and overlap where the side is no multiple of 7.
    """
    areas = torch.zeros(_SIDE, side, dtype=torch.float64)
    for area in range(_SIDE):
        areas[area, area * side // _SIDE : -(-(area + 1) * side // _SIDE)] = 1
    return areas


class VectorThumbnails:
    """Computes thumbnails of vectors: standardised numbers, or sums of neighbours if more than 49."""

    def __init__(self, features: VectorFeatures, numbers: int) -> None:
        self.size = min(PIXELS, numbers)
        """S."""
        self._features = features
        bounds = [group * numbers // self.size for group in range(self.size + 1)]
        self._groups_FS = torch.zeros(numbers, self.size, dtype=torch.float64)
        for group, (first, end) in enumerate(pairwise(bounds)):
            self._groups_FS[first:end, group] = 1

    def __call__(self, x_BF: Tensor) -> Tensor:
        """Return thumbnails of float32 vectors: whole numbers in float64, of shape [B, S], on the CPU."""
        return self._features.levels(x_BF) @ self._groups_FS


class ThumbnailStatistics:
    """A Gaussian fitted to a regime's thumbnails, stored as sums: their number, Σz and Σzzᵀ.

    The sums are whole numbers.
    """

    def __init__(self, size: int = PIXELS) -> None:
        """``size`` is S."""
        self.t_squared_limit = 1 + _EXCESS * math.sqrt(PIXELS / size)
        """Hotelling's T² over S above which a batch is not of the regime. Its own batches stay below.

        It is 3 for images, of whose regime batches stay below 2; the fewer numbers, the more T² varies.
        """
        self.sums = torch.zeros(size + 1, size + 1, dtype=torch.int64)
        """Σ (z, 1)(z, 1)ᵀ, int64 of shape [S + 1, S + 1]: determines mean and covariance."""
        self._fitted: tuple[Tensor, Tensor, float] | None = None

    @property
    def count(self) -> int:
        """Number of thumbnails in the sums."""
        return int(self.sums[-1, -1])

    def add(self, z_BS: Tensor, sign: int = 1) -> None:
        """Add thumbnails to the sums, or subtract them if ``sign`` is −1."""
        z_BT = nn.functional.pad(z_BS, (0, 1), value=1.0)
        self.sums.add_((z_BT.T @ z_BT).to(torch.int64), alpha=sign)  # exact below 2⁵³
        self._fitted = None

    def distances(self, z_BS: Tensor) -> Tensor:
        """Return each thumbnail's squared Mahalanobis distance over S: about 1 in the regime itself."""
        mean_S, factor_SS, _ = self._gaussian()
        white_SB: Tensor = torch.linalg.solve_triangular(factor_SS, (z_BS - mean_S).T, upper=False)
        return white_SB.square().mean(0)

    def deviances(self, z_BS: Tensor) -> Tensor:
        """Return each thumbnail's deviance, −2 log-likelihood, divided by S and up to a constant."""
        return self.distances(z_BS) + self._gaussian()[2]

    @property
    def mean(self) -> Tensor:
        """The mean of its thumbnails, of shape [S]."""
        return self._gaussian()[0]

    def t_squared(self, z_BS: Tensor) -> float:
        """Return Hotelling's T² over S of the thumbnails' mean: about 1 in the regime itself."""
        return self.t_squared_of_mean(z_BS.mean(0), len(z_BS))

    def t_squared_of_mean(self, mean_S: Tensor, count: float) -> float:
        """Return Hotelling's T² over S of a mean that is as uncertain as that of ``count`` thumbnails.

        The uncertainty of the regime's own mean is included. For MNIST it was at most 1.3 in batches of 64
        and 512 of the same view; for rotated digits at least 4 in batches of 16 and 12 in batches of 64.
        """
        return self.distances(mean_S[None]).item() / (1 / count + 1 / self.count)

    def load(self, sums: Tensor) -> None:
        """Copy the ``sums`` from a state."""
        self.sums.copy_(sums)
        self._fitted = None

    def _gaussian(self) -> tuple[Tensor, Tensor, float]:
        """Return the mean, the Cholesky factor of the covariance and its log-determinant / S."""
        if self._fitted is None:
            moments = self.sums.to(torch.float64) / self.count
            mean_S = moments[-1, :-1]
            covariance_SS = moments[:-1, :-1] - torch.outer(mean_S, mean_S)
            floor = _FLOOR * covariance_SS.diagonal().mean().clamp_min(1.0)
            covariance_SS.diagonal().add_(floor)
            factor_SS = torch.linalg.cholesky(covariance_SS)
            self._fitted = (mean_S, factor_SS, 2 * factor_SS.diagonal().log().mean().item())
        return self._fitted
