"""Fixed features of bounded length, which bounds the change of a sum by one sample.

Shapes: B batch, C channels, H height, W width, D features.
"""

from typing import Final

import torch
from torch import Tensor, nn

from lethe.learners.features.feature_map import FeatureMap
from lethe.learners.features.vector_features import VectorFeatures
from lethe.learners.features.wavelet_features import WaveletFeatures
from lethe.learners.vector_scale import VectorOptions, VectorScale
from lethe.wire import Layout

__all__ = ["UnitFeatures"]

_CONSTANT: Final = 0.25  # of a length of 1: the only feature of a sample without contrast
_WAVES: Final = 768  # of vectors


class UnitFeatures:
    """Wavelet coefficients less their mean over the sample, and a constant; of total length 1.

    Of vectors they are random Fourier features in place of wavelets. The features of a sample depend on no
    other sample: neither on a mean nor on a scale of the stream, which would cost privacy. Fixed features
    suit private learning better than learned ones (Tramèr & Boneh 2021, Differentially Private Learning Needs
    Better Features).
    """

    def __init__(self, layout: Layout, options: VectorOptions, device: torch.device) -> None:
        """Raise ValueError for images that `WaveletFeatures` does not take, or vectors of unknown scale."""
        scale = VectorScale.of(layout, options)
        if scale is not None and not scale.given:
            raise ValueError(
                "vectors need learner.options.location and spread: a scale estimated from the stream would"
                " be a statistic without noise"
            )
        self._features: FeatureMap
        if scale is None:
            self._features = WaveletFeatures(layout, 0, 0, device)  # without random waves, no seed matters
        else:
            self._features = VectorFeatures(scale, 0, _WAVES, device)  # any directions, the same in every run
        self.count = self._features.count
        """D."""

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        """Return float32 features of shape [B, D], each of Euclidean length 1 at most."""
        return _of_unit_length(self._features(x_BCHW).to(torch.float32))

    def module(self) -> nn.Module:
        """Return the same features, on the CPU, as a torch module that can be exported."""
        return _UnitModule(self._features.module())


class _UnitModule(nn.Module):
    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return _of_unit_length(self.features(x_BCHW))


def _of_unit_length(features_BD: Tensor) -> Tensor:
    """Return features less their mean, at most as long as 1 with the constant in place of the last one."""
    features = features_BD[:, :-1]
    centred = features - features.mean(1, keepdim=True)
    unit = nn.functional.normalize(centred) * (1 - _CONSTANT**2) ** 0.5
    return torch.cat((unit, torch.full_like(unit[:, :1], _CONSTANT)), 1)
