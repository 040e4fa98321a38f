"""Fixed features of images, independent of any data: wavelets, patches and random Fourier features.

Shapes: B batch, C channels, H height, W width, D features; in `_Coefficients`, N coefficients.
"""

import math
from typing import Final

import torch
from torch import Tensor, nn

from lethe.learners.features.compression import COMPRESSION, LARGEST, logarithms
from lethe.learners.features.feature_map import FeatureMap
from lethe.learners.features.feature_module import FeatureModule
from lethe.learners.features.morlet import BLACK, ConvolvedMaps, ModulusMaps, morlet_bank, whole_bank
from lethe.learners.features.patch_maps import (
    CELLS,
    FILTERS,
    STEPS,
    ConvolvedPatches,
    PatchSums,
    responses_per_cell,
)
from lethe.learners.features.random_fourier import TURN, RandomFourierFeatures
from lethe.learners.features.square_roots import square_roots, square_roots_
from lethe.learners.parallel import equal_length, share
from lethe.wire import Layout

__all__ = ["WaveletFeatures"]

SIDES: Final = range(8, 65)
"""Supported numbers of pixels per side."""
OTHERS: Final = "a learner that trains a network, such as finetune, takes others"
_CELL: Final = 4  # pixels per side over which a coefficient is averaged
_ORIENTATIONS: Final = 8
_FINE: Final = (7, 0.8, 3 * math.pi / 4)
_COARSE: Final = (13, 1.6, 3 * math.pi / 8)
_RESPONSES: Final = 4  # whose moduli are added up
_BRIGHTEST: Final = 0.42  # of a modulus: none of pixels from 0 to 1 is larger
_PIXEL: Final = 255
_LEVELS: Final = 1020  # of a coefficient of order one or two, or of patches
_STRONGEST: Final = 4.0  # mean response to a patch: larger ones count as that
_CONTOUR: Final = 1 / 3  # of a mean response of 1, in units of the logarithms of wavelet coefficients
_SCALE: Final = 3.0  # of a random direction, in radians per root mean square of the coefficients
_GREY: Final = 0.5  # weight of order zero in a random direction: brightness varies most and says least
_AT_ONCE: Final = 64  # images per piece at most: fewer cost overhead, more no longer fit the cache


class WaveletFeatures(FeatureMap):
    """Wavelet coefficients of orders zero and one, random Fourier features of all orders, and a constant.

    The products of random Fourier features approach a Gaussian kernel of the coefficients, of
    width 1/3 of their root mean square difference, in which order zero counts half: `RandomFourierFeatures`.
    With patches, the coefficients of the random Fourier features are also the mean responses to whitened
    patches of drawn images (`patch_maps`), which tell textures apart and take time of their own.
    The features need no standardisation: no statistic of the stream, and no sample of it, is in the features.

    All features are whole numbers up to 127, which stands for 1. Every step that leads to them is exact, or
    rounded as IEEE 754 demands. So they are the same in any batch, with any number of threads and on every
    machine.
    """

    def __init__(
        self, layout: Layout, seed: int, waves: int, device: torch.device, *, patches: bool = False
    ) -> None:
        """``waves`` random features are drawn, but at most two for each coefficient.

        Without any, no coefficient of order two or of patches is of use, and none is computed. Raises
        ValueError for a layout of other than 1 or 3 channels or sides out of `SIDES`.
        """
        if layout.channels not in {1, 3}:
            raise ValueError(f"images of {layout.channels} channels: wavelet features take 1 or 3; {OTHERS}")
        if not {layout.height, layout.width} <= set(SIDES):
            raise ValueError(
                f"images of {layout.height}×{layout.width}: "
                f"wavelet features take {SIDES.start} to {SIDES.stop - 1} pixels a side; {OTHERS}"
            )
        self._device, self._layout, self._patches = device, layout, patches
        self._coefficients = _Coefficients(layout, waves=waves > 0, patches=patches, device=device)
        count, self._linear = self._coefficients.count, self._coefficients.linear
        generator = torch.Generator().manual_seed(seed)
        self._waves = RandomFourierFeatures(count, min(waves, 2 * count), generator, device)
        self._logarithms = self._coefficients.table(LARGEST, LARGEST).to(torch.int8)
        radians = _SCALE * math.log1p(COMPRESSION) / math.sqrt(count * self._waves.length)
        turn = TURN * radians / (2 * math.pi)
        self._angles = self._coefficients.table(_GREY * turn, turn)
        self.count = self._linear + self._waves.count + 1
        """D."""
        self.scales = torch.full((self.count,), 1 / LARGEST, dtype=torch.float64, device=device)
        """The real numbers that features of 1 stand for, float64 of shape [D].

        The unit of logarithms is that of log 11, the unit of all others that of 1.
        """
        self.scales[: self._linear] *= math.log1p(COMPRESSION)

    def module(self) -> FeatureModule:
        """Return the same features, on the CPU, as a torch module that can be exported."""
        cpu = torch.device("cpu")
        waves = self._waves.count > 0
        indices = _Coefficients(self._layout, waves=waves, patches=self._patches, device=cpu, convolved=True)
        return FeatureModule(
            indices,
            self._logarithms.cpu(),
            indices.linear,
            self._angles.cpu(),
            self._waves.module() if waves else None,
        )

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        """Return features, int8 of shape [B, D], on the device, for uint8 images."""
        x_BCHW = x_BCHW.to(self._device)
        features_BD = torch.empty(len(x_BCHW), self.count, device=self._device, dtype=torch.int8)
        features_BD[:, -1] = LARGEST

        def compute(part: tuple[Tensor, Tensor]) -> None:
            x_PCHW, features_PD = part
            index_PN = self._coefficients(x_PCHW)
            features_PD[:, : self._linear] = _entries(self._logarithms, index_PN[:, : self._linear])
            if self._waves.count:
                features_PD[:, self._linear : -1] = self._waves(_entries(self._angles, index_PN))

        if len(x_BCHW):
            length = equal_length(len(x_BCHW), _AT_ONCE)
            pieces = (torch.split(images, length) for images in (x_BCHW, features_BD))
            share(compute, zip(*pieces, strict=True))
        return features_BD


class _Coefficients:
    """Wavelet coefficients of orders zero, one and two, and of patches, as indices into tables.

    Order zero is the image averaged over 4×4 pixels, for each channel; order one the moduli of
    its responses to fine and coarse oriented wavelets, order two those of the fine moduli to
    fine wavelets at half the resolution, both of the mean of the channels and averaged over the
    same 4×4 pixels (Bruna & Mallat 2013). Coarse moduli are computed at every second pixel. Moduli of order
    one are square roots from here on, so that faint strokes count beside bright ones. Those of patches are
    square roots of mean responses. Images of more than 32 pixels a side are first averaged over 2×2.
    """

    def __init__(
        self, layout: Layout, *, waves: bool, patches: bool, device: torch.device, convolved: bool = False
    ) -> None:
        """Coefficients of order two and of patches are for random ``waves`` alone.

        ``convolved`` ones are computed by operations that can be exported.
        """
        modulus_maps = ConvolvedMaps if convolved else ModulusMaps
        patch_maps = ConvolvedPatches if convolved else PatchSums
        self._roots = square_roots if convolved else square_roots_
        self._shrink = max(layout.height, layout.width) > 32
        rows, columns = (-(-side // (1 + self._shrink)) for side in (layout.height, layout.width))
        self._padding = (0, -columns % _CELL, 0, -rows % _CELL)
        rows, columns = rows + -rows % _CELL, columns + -columns % _CELL
        fine_2Fkk, fine_units = whole_bank(morlet_bank(*_FINE, _ORIENTATIONS))
        coarse_2Fkk, coarse_units = whole_bank(morlet_bank(*_COARSE, _ORIENTATIONS))
        self._fine = modulus_maps(fine_2Fkk, 1, device)
        self._coarse = modulus_maps(coarse_2Fkk, 2, device)
        brightest = _RESPONSES * _PIXEL * _BRIGHTEST
        self._brightest_fine, self._brightest_coarse = brightest * fine_units, brightest * coarse_units
        cells = rows * columns // _CELL**2
        self._zero = cells * layout.channels
        self._one = 2 * cells * _ORIENTATIONS
        self.linear = self._zero + self._one
        """Number of coefficients of orders zero and one, which come first."""
        self._second_order = waves
        self._wavelets = self.linear + waves * cells * _ORIENTATIONS**2
        self._patches = patch_maps(rows, columns, device) if waves and patches else None
        self._strongest = _STRONGEST * STEPS * responses_per_cell(rows, columns)
        self.count = self._wavelets + (2 * FILTERS * CELLS**2 if self._patches else 0)
        """N."""
        self._device = device

    def table(self, zero: float, others: float) -> Tensor:
        """Return the values of coefficients in whole numbers, int32.

        Of wavelets they are logarithms, of which a 1 is ``zero`` or, of orders one and two, ``others``.
        """
        strongest = others * _CONTOUR * math.sqrt(_STRONGEST)
        orders = [
            logarithms(_CELL**2 * _PIXEL, 1.0, zero),
            logarithms(_LEVELS, _BRIGHTEST, others),
            logarithms(_LEVELS, _BRIGHTEST**2, others),
            (strongest * level / _LEVELS for level in range(_LEVELS + 1)),
        ]
        entries = [round(entry) for order in orders for entry in order]
        return torch.tensor(entries, dtype=torch.int32, device=self._device)

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        """Return where in a `table` the coefficients are, int32 of shape [B, N]."""
        batch = x_BCHW.shape[0]
        x_BCHW = x_BCHW.to(torch.float32)
        if self._shrink:
            odd = (0, x_BCHW.shape[3] % 2, 0, x_BCHW.shape[2] % 2)
            x_BCHW = _means(nn.functional.pad(x_BCHW, odd, mode="replicate"))
        x_BCHW = nn.functional.pad(x_BCHW, self._padding)
        grey_BHW = _int8(x_BCHW[:, 0] if x_BCHW.shape[1] == 1 else _mean_channel(x_BCHW))
        fine = self._roots(self._fine(grey_BHW).mul_(1 / self._brightest_fine))
        fine_BFhw = _levels(fine, _PIXEL, _PIXEL).permute(0, 3, 1, 2)
        coarse = self._roots(self._coarse(grey_BHW).mul_(1 / self._brightest_coarse))
        orders = [_sums(_sums(x_BCHW)), _sums(fine_BFhw), _levels(coarse, _LEVELS, _LEVELS)]
        if self._second_order:
            maps = self._fine(_int8(fine_BFhw).flatten(0, 1))
            orders.append(_levels(maps, _LEVELS / self._brightest_fine, _LEVELS))
        if self._patches:
            responses = self._roots(self._patches(grey_BHW).mul_(1 / self._strongest))
            orders.append(_levels(responses, _LEVELS, _LEVELS))
        index_BN = torch.cat([order.reshape(batch, -1) for order in orders], 1).to(torch.int32)
        index_BN[:, self._zero :] += _CELL**2 * _PIXEL + 1
        index_BN[:, self.linear :] += _LEVELS + 1
        index_BN[:, self._wavelets :] += _LEVELS + 1
        return index_BN


def _mean_channel(x_BCHW: Tensor) -> Tensor:
    return x_BCHW.sum(1).div_(x_BCHW.shape[1], rounding_mode="floor")


def _levels(x: Tensor, levels: float, most: int) -> Tensor:
    """Return ``x`` times ``levels``, rounded to a whole number, at ``most`` that."""
    return x.mul_(levels).add_(0.5).floor_().clamp_max_(most)


def _entries(table: Tensor, index_BN: Tensor) -> Tensor:
    return table.index_select(0, index_BN.reshape(-1)).view(index_BN.shape)


def _int8(x: Tensor) -> Tensor:
    """Return whole numbers from 0 to 255 as int8 from `BLACK` on."""
    return x.add(BLACK).to(torch.int8)


def _sums(x_BCHW: Tensor) -> Tensor:
    """Return sums over 2×2 pixels."""
    rows = x_BCHW[:, :, ::2] + x_BCHW[:, :, 1::2]
    return rows[..., ::2] + rows[..., 1::2]


def _means(x_BCHW: Tensor) -> Tensor:
    """Return means over 2×2 pixels, rounded to whole numbers."""
    return _sums(x_BCHW).mul_(0.25).add_(0.5).floor_()
