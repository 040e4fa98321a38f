"""Chooses the fixed features of a learner by its layout and options."""

from pathlib import Path
from typing import Final

from pydantic import Field

from lethe.errors import InvalidSetting
from lethe.learners.base import LearnerContext
from lethe.learners.features.feature_map import FeatureMap
from lethe.learners.features.torchvision_features import PREFIX, TorchvisionFeatures
from lethe.learners.features.vector_features import VectorFeatures
from lethe.learners.features.wavelet_features import WaveletFeatures
from lethe.learners.vector_scale import VectorOptions, VectorScale

__all__ = ["FeatureOptions", "feature_map"]

WAVELETS: Final = "wavelets"
PATCHES: Final = "wavelets+patches"


class FeatureOptions(VectorOptions):
    """The fixed features of a learner."""

    features: str = "wavelets"
    """Fixed features of images: wavelets, of 8 to 64 pixels a side; wavelets+patches, which know textures
    better and take more time; or torchvision:MODEL, such as torchvision:resnet18, the frozen body of a model
    of torchvision on images of any size."""
    weights: Path | None = None
    """File of that model's weights, .safetensors or .pth; nothing is downloaded."""
    side: int = Field(default=224, ge=32, le=1024)
    """Pixels a side to which images are scaled for torchvision:MODEL."""
    waves: int = Field(default=0, ge=0)
    """Number of random Fourier features."""


def feature_map(context: LearnerContext, options: FeatureOptions) -> FeatureMap:
    """Return the features of a layout: of images those of the options, of vectors `VectorFeatures`.

    Raises ValueError for images of a size that it does not take, InvalidSetting for options that do not fit.
    """
    scale = VectorScale.of(context.layout, options)
    if not options.features.startswith(PREFIX):
        if options.features not in {WAVELETS, PATCHES}:
            raise InvalidSetting(
                f"learner.options.features: {options.features!r} is none of {WAVELETS}, {PATCHES}, "
                f"{PREFIX}MODEL"
            )
        if (patches := options.features == PATCHES) and options.waves == 0:
            raise InvalidSetting(f"learner.options.waves: {PATCHES} needs random waves")
        if options.weights is not None:
            raise InvalidSetting(f"learner.options.weights is for features={PREFIX}MODEL")
        if scale is None:
            return WaveletFeatures(
                context.layout, context.seed, options.waves, context.device, patches=patches
            )
        if patches:
            raise _of_images(options)
    elif scale is None:
        return _of_torchvision(context, options)
    else:
        raise _of_images(options)
    return VectorFeatures(scale, context.seed, options.waves, context.device)


def _of_images(options: FeatureOptions) -> InvalidSetting:
    return InvalidSetting(f"learner.options.features: {options.features} is for images, samples are vectors")


def _of_torchvision(context: LearnerContext, options: FeatureOptions) -> TorchvisionFeatures:
    if context.layout.channels not in {1, 3}:
        raise ValueError(f"images of {context.layout.channels} channels: {options.features} takes 1 or 3")
    if options.weights is None:
        raise InvalidSetting(f"learner.options.weights: {options.features} needs a file of its weights")
    return TorchvisionFeatures(
        options.features.removeprefix(PREFIX),
        options.weights,
        options.side,
        context.seed,
        options.waves,
        context.device,
    )
