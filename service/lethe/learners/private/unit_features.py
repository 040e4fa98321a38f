"""Fixed features of bounded length, which bounds the change of a sum by one sample.

Shapes: B batch, C channels, H height, W width, D features.
"""

from typing import Final

import torch
from torch import Tensor, nn

from lethe.learners.features.wavelet_features import WaveletFeatures
from lethe.wire import Layout

__all__ = ["UnitFeatures"]

_CONSTANT: Final = 0.25  # of a length of 1: the only feature of a sample without contrast


class UnitFeatures:
    """Wavelet coefficients less their mean over the sample, and a constant; of total length 1.

    The features of a sample depend on no other sample: neither on a mean nor on a scale of the stream, which
    would cost privacy. Fixed features suit private learning better than learned ones (Tramèr & Boneh 2021,
    Differentially Private Learning Needs Better Features).
    """

    def __init__(self, layout: Layout, device: torch.device) -> None:
        """Raise ValueError for a layout that `WaveletFeatures` does not take."""
        self._wavelets = WaveletFeatures(layout, 0, 0, device)  # without random waves, no seed matters
        self.count = self._wavelets.count
        """D."""

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        """Return float32 features of shape [B, D], each of Euclidean length 1 at most, for uint8 images."""
        wavelets = self._wavelets(x_BCHW)[:, :-1].to(torch.float32)
        centred = wavelets - wavelets.mean(1, keepdim=True)
        unit = nn.functional.normalize(centred).mul_((1 - _CONSTANT**2) ** 0.5)
        return torch.cat((unit, unit.new_full((len(unit), 1), _CONSTANT)), 1)
