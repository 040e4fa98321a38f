"""Fixed features of images, independent of any data: wavelet coefficients and random Fourier features.

Shapes: B batch, C channels, H height, W width, D features; in `WaveletCoefficients`, N coefficients.
"""

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn

from lethe.learners.features.compression import COMPRESSION, LARGEST, logarithms
from lethe.learners.features.feature_map import FeatureMap
from lethe.learners.features.feature_module import FeatureModule
from lethe.learners.features.morlet import BLACK, ConvolvedMaps, Maps, ModulusMaps, morlet_bank, whole_bank
from lethe.learners.features.parallel import share
from lethe.learners.features.random_fourier import TURN, RandomFourierFeatures
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
_LEVELS: Final = 1020  # of a coefficient of order one or two
_SCALE: Final = 3.0  # of a random direction, in radians per root mean square of the coefficients
_GREY: Final = 0.5  # weight of order zero in a random direction: brightness varies most and says least
_AT_ONCE: Final = 48  # images per piece: fewer cost overhead, 80 no longer fit the cache


class WaveletFeatures(FeatureMap):
    """Wavelet coefficients of orders zero and one, random Fourier features of all orders, and a constant.

    The products of random Fourier features approach a Gaussian kernel of the coefficients, of
    width 1/3 of their root mean square difference, in which order zero counts half: `RandomFourierFeatures`.
    They need no standardisation: no statistic of the stream, and no sample of it, is in the features.

    All features are whole numbers up to 127, which stands for 1. Every step that leads to them is exact, or
    rounded as IEEE 754 demands. So they are the same in any batch, with any number of threads and on every
    machine.
    """

    def __init__(self, layout: Layout, seed: int, waves: int, device: torch.device) -> None:
        """``waves`` random features are drawn, but at most two for each coefficient.

        Raises ValueError for a layout of other than 1 or 3 channels or sides out of `SIDES`.
        """
        if layout.channels not in {1, 3}:
            raise ValueError(f"images of {layout.channels} channels: wavelet features take 1 or 3; {OTHERS}")
        if not {layout.height, layout.width} <= set(SIDES):
            raise ValueError(
                f"images of {layout.height}×{layout.width}: "
                f"wavelet features take {SIDES.start} to {SIDES.stop - 1} pixels a side; {OTHERS}"
            )
        self._device, self._layout = device, layout
        # order two is for the random waves alone
        self._coefficients = _WaveletCoefficients(layout, second_order=waves > 0, device=device)
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
        second = self._waves.count > 0
        indices = _WaveletCoefficients(self._layout, second_order=second, device=cpu, maps=ConvolvedMaps)
        return FeatureModule(
            indices,
            self._logarithms.cpu(),
            indices.linear,
            self._angles.cpu(),
            self._waves.module() if second else None,
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
            pieces = (torch.split(images, _AT_ONCE) for images in (x_BCHW, features_BD))
            share(compute, zip(*pieces, strict=True))
        return features_BD


class _WaveletCoefficients:
    """Wavelet coefficients of orders zero, one and two, as indices into tables of their logarithms.

    Order zero is the image averaged over 4×4 pixels, for each channel; order one the moduli of
    its responses to fine and coarse oriented wavelets, order two those of the fine moduli to
    fine wavelets at half the resolution, both of the mean of the channels and averaged over the
    same 4×4 pixels (Bruna & Mallat 2013). Coarse moduli are computed at every second pixel. Moduli of order
    one are square roots from here on, so that faint strokes count beside bright ones. Images of more than 32
    pixels a side are first averaged over 2×2.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        second_order: bool,
        device: torch.device,
        maps: Callable[[Tensor, int, torch.device], Maps] = ModulusMaps,
    ) -> None:
        self._shrink = max(layout.height, layout.width) > 32
        rows, columns = (-(-side // (1 + self._shrink)) for side in (layout.height, layout.width))
        self._padding = (0, -columns % _CELL, 0, -rows % _CELL)
        fine_2Fkk, fine_units = whole_bank(morlet_bank(*_FINE, _ORIENTATIONS))
        coarse_2Fkk, coarse_units = whole_bank(morlet_bank(*_COARSE, _ORIENTATIONS))
        self._fine = maps(fine_2Fkk, 1, device)
        self._coarse = maps(coarse_2Fkk, 2, device)
        brightest = _RESPONSES * _PIXEL * _BRIGHTEST
        self._brightest_fine, self._brightest_coarse = brightest * fine_units, brightest * coarse_units
        self._second_order = second_order
        cells = -(-rows // _CELL) * -(-columns // _CELL)
        self._zero = cells * layout.channels
        self._one = 2 * cells * _ORIENTATIONS
        self.linear = self._zero + self._one
        """Number of coefficients of orders zero and one, which come first."""
        self.count = self.linear + second_order * cells * _ORIENTATIONS**2
        """N."""
        self._device = device

    def table(self, zero: float, others: float) -> Tensor:
        """Return logarithms in whole numbers, int32; a 1 is ``zero`` or, of the other orders, ``others``."""
        orders = [
            logarithms(_CELL**2 * _PIXEL, 1.0, zero),
            logarithms(_LEVELS, _BRIGHTEST, others),
            logarithms(_LEVELS, _BRIGHTEST**2, others),
        ]
        entries = [round(logarithm) for order in orders for logarithm in order]
        return torch.tensor(entries, dtype=torch.int32, device=self._device)

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        """Return where in a `table` the coefficients are, int32 of shape [B, N]."""
        batch = x_BCHW.shape[0]
        x_BCHW = x_BCHW.to(torch.float32)
        if self._shrink:
            odd = (0, x_BCHW.shape[3] % 2, 0, x_BCHW.shape[2] % 2)
            x_BCHW = _means(nn.functional.pad(x_BCHW, odd, mode="replicate"))
        x_BCHW = nn.functional.pad(x_BCHW, self._padding)
        grey_BHW = x_BCHW[:, 0] if x_BCHW.shape[1] == 1 else _mean_channel(x_BCHW)
        fine = self._fine(_int8(grey_BHW)).mul_(1 / self._brightest_fine).sqrt_()
        fine_BFhw = _levels(fine, _PIXEL, _PIXEL).permute(0, 3, 1, 2)
        coarse = self._coarse(_int8(grey_BHW)).mul_(1 / self._brightest_coarse).sqrt_()
        orders = [_sums(_sums(x_BCHW)), _sums(fine_BFhw), _levels(coarse, _LEVELS, _LEVELS)]
        if self._second_order:
            maps = self._fine(_int8(fine_BFhw).flatten(0, 1))
            orders.append(_levels(maps, _LEVELS / self._brightest_fine, _LEVELS))
        index_BN = torch.cat([order.reshape(batch, -1) for order in orders], 1).to(torch.int32)
        index_BN[:, self._zero :] += _CELL**2 * _PIXEL + 1
        index_BN[:, self.linear :] += _LEVELS + 1
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
