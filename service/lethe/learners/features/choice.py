"""Chooses the fixed features of a learner by its layout and options."""

from pydantic import Field

from lethe.learners.base import LearnerContext
from lethe.learners.features.feature_map import FeatureMap
from lethe.learners.features.vector_features import VectorFeatures
from lethe.learners.features.wavelet_features import WaveletFeatures
from lethe.learners.vector_scale import VectorOptions, VectorScale

__all__ = ["FeatureOptions", "feature_map"]


class FeatureOptions(VectorOptions):
    """The fixed features of a learner."""

    waves: int = Field(default=0, ge=0)
    """Number of random Fourier features."""


def feature_map(context: LearnerContext, options: FeatureOptions) -> FeatureMap:
    """Return the features of a layout: of images `WaveletFeatures`, of vectors `VectorFeatures`.

    Raises ValueError for images of a size that it does not take, InvalidSetting for options that do not fit.
    """
    scale = VectorScale.of(context.layout, options)
    if scale is None:
        return WaveletFeatures(context.layout, context.seed, options.waves, context.device)
    return VectorFeatures(scale, context.seed, options.waves, context.device)
