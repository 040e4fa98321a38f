"""Fixed features of images, drawn from a seed and from no data: wavelets, then random waves of them.

Shapes: B batch, C channels, H height, W width, D features.
"""

import math
from typing import Final

import torch
from torch import Tensor, nn

from service.learners.products import rounded, unit
from service.learners.sharing import share
from service.learners.wavelets import ModulusMaps, morlet_bank
from service.learners.waves import RandomWaves
from service.wire import Layout

__all__ = ["WaveletFeatures"]

SIDES: Final = range(8, 65)
"""Pixels a side that are taken."""
_BLOCK: Final = 4  # pixels a side that a coefficient is averaged over
_HALF: Final = 2  # and a modulus that is looked at again: 4 pixels are then 2
_ORIENTATIONS: Final = 8
_FINE: Final = (7, 0.8, 3 * math.pi / 4)
_COARSE: Final = (13, 1.6, 3 * math.pi / 8)
_SCALE: Final = 3.0  # of a random wave, in radians a root mean square of the coefficients
_GREY: Final = 0.5  # order zero's weight in a random wave: shades vary most and tell least
_AT_ONCE: Final = 64  # images that a thread looks at: with fewer it mostly waits, with more for memory
_COMPRESSION: Final = 10.0  # log(1 + 10 s): faint strokes count, and bright ones do not drown them


class WaveletFeatures:
    """Wavelet coefficients of orders zero and one, random Fourier features of all orders, and a 1.

    Order zero is the image averaged over 4×4 pixels, for each channel; order one the moduli of
    its responses to fine and coarse oriented wavelets, order two those of the fine moduli to
    fine wavelets at half the resolution, both of the mean of the channels and averaged over the
    same 4×4 pixels (Bruna & Mallat 2013). Images of more than 32 pixels a side are first averaged
    over 2×2.

    The products of random Fourier features approach a Gaussian kernel of the coefficients, of
    width 1/3 of their root mean square difference, in which order zero counts half: `RandomWaves`.
    They need no standardisation: no statistic of the stream, and no sample of it, is in the features.
    """

    def __init__(self, layout: Layout, seed: int, waves: int, device: torch.device) -> None:
        """``waves`` random features are drawn, but at most two for each coefficient.

        Raises ValueError for a layout of other than 1 or 3 channels or sides out of `SIDES`.
        """
        if layout.channels not in {1, 3}:
            raise ValueError(f"images of {layout.channels} channels: wavelet features take 1 or 3")
        if not {layout.height, layout.width} <= set(SIDES):
            raise ValueError(
                f"images of {layout.height}×{layout.width}: "
                f"wavelet features take {SIDES.start} to {SIDES.stop - 1} pixels a side"
            )
        self._device = device
        self._shrink = 2 if max(layout.height, layout.width) > 32 else 1
        rows, columns = (-(-side // self._shrink) for side in (layout.height, layout.width))
        self._padding = (0, -columns % _BLOCK, 0, -rows % _BLOCK)
        fine, coarse = morlet_bank(*_FINE, _ORIENTATIONS), morlet_bank(*_COARSE, _ORIENTATIONS)
        self._fine = ModulusMaps(fine, _HALF, device)
        self._coarse = ModulusMaps(coarse, _BLOCK, device)
        cells = -(-rows // _BLOCK) * -(-columns // _BLOCK)
        self._linear = cells * (layout.channels + 2 * _ORIENTATIONS)
        self._looks_twice = waves > 0  # order two is for the random waves alone
        coefficients = self._linear + self._looks_twice * cells * _ORIENTATIONS**2
        weights = torch.full((coefficients,), _SCALE / math.sqrt(coefficients))
        weights[: cells * layout.channels] *= _GREY
        generator = torch.Generator().manual_seed(seed)
        self._waves = RandomWaves(weights, min(waves, 2 * coefficients), generator, device)
        self.count = self._linear + self._waves.count + 1
        """D."""

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        """Return features of shape [B, D], on the device, for uint8 images; they are `products.rounded`."""
        x_BCHW = x_BCHW.to(self._device)
        features_BD = torch.empty(len(x_BCHW), self.count, device=self._device)
        features_BD[:, -1] = 1

        def look(part: tuple[Tensor, Tensor]) -> None:
            x_PCHW, features_PD = part
            coefficients_PC = rounded(self._looked(x_PCHW))
            features_PD[:, : self._linear] = coefficients_PC[:, : self._linear]
            features_PD[:, self._linear : -1] = self._waves(coefficients_PC).to(torch.bfloat16)

        parts = -(-len(x_BCHW) // _AT_ONCE)
        if parts:
            with unit():  # in parts alike: how a sum is rounded may depend on their size
                share(look, zip(x_BCHW.tensor_split(parts), features_BD.tensor_split(parts), strict=True))
        return features_BD

    def _looked(self, x_BCHW: Tensor) -> Tensor:
        """Return orders zero, one and, where there are random waves, two, in this order."""
        batch = len(x_BCHW)
        x = x_BCHW.to(torch.float32).div_(255)
        if self._shrink > 1:
            x = nn.functional.avg_pool2d(x, self._shrink, ceil_mode=True)
        x = nn.functional.pad(x, self._padding)
        grey = x.mean(1)
        fine = self._fine(grey)
        halves = (batch, fine.shape[1] // 2, 2, fine.shape[2] // 2, 2, _ORIENTATIONS)
        first = torch.cat((fine.view(halves).mean((2, 4)), self._coarse(grey)), 3)
        orders = [nn.functional.avg_pool2d(x, _BLOCK), first]
        if self._looks_twice:
            orders.append(self._fine(fine.permute(0, 3, 1, 2).flatten(0, 1)))
        return torch.cat([order.reshape(batch, -1) for order in orders], 1).mul_(_COMPRESSION).log1p_()
