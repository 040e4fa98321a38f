"""Filters that are whitened patches of dead leaves: images of overlapping shapes, drawn from a seed.

Random patches of images, whitened, are nearly as good filters as learned ones (Coates & Ng 2011, The
Importance of Encoding Versus Training with Sparse Coding and Vector Quantization). The images are drawn, so
that no image of anybody is in the filters. Shapes that hide one another, of all sizes, have the statistics of
photographs (Lee, Mumford & Huang 2001, Occlusion Models for Natural Images).

Shapes: N images, S pixels a side, L leaves, P patches, F filters, k pixels a side of a patch.
"""

from functools import cache
from typing import Final

import torch
from torch import Tensor, nn

from lethe.learners.features.whole_filters import whole_filters

__all__ = ["CONTRAST", "dead_leaves", "patch_filters"]

CONTRAST: Final = 10.0
"""Variance of pixels from 0 to 255 that is added to that of a patch, so that noise does not count."""
_IMAGES: Final = 8
_SIDE: Final = 48
_LEAVES: Final = 100  # of an image: they leave hardly any background
_RADII: Final = (1.5, 16.0)  # pixels
_FINE: Final = 1 << 20  # steps of a number drawn between 0 and 1
_FLAT: Final = 20.0  # least variance of a patch that is used
_WHITENING: Final = 0.1  # added to the variances
_ALIKE: Final = 0.6  # cosine of two whitened patches of which one is not used


def dead_leaves(generator: torch.Generator, images: int, side: int) -> Tensor:
    """Return images of discs and rectangles, float64 of shape [N, S, S], from 0 to 255.

    The density of a radius r falls with r³, so that shapes are alike at every scale.
    """

    def drawn(*shape: int) -> Tensor:
        return torch.randint(_FINE, shape, generator=generator).to(torch.float64) / _FINE

    y_SS, x_SS = torch.meshgrid(*2 * [torch.arange(side, dtype=torch.float64)], indexing="ij")
    smallest, largest = (radius**-2 for radius in _RADII)
    found = []
    for _ in range(images):
        radius, ratio, turned_x, turned_y, grey = drawn(5, _LEAVES)[:, :, None, None]
        centre_x, centre_y = (side * drawn(2, _LEAVES))[:, :, None, None]
        radius = 1 / (smallest + radius * (largest - smallest)).sqrt()
        turned_x, turned_y = 2 * turned_x - 1, 2 * turned_y - 1
        length = (turned_x.square() + turned_y.square()).sqrt().clamp_min(1 / _FINE)
        x, y = x_SS - centre_x, y_SS - centre_y
        along = (turned_x * x + turned_y * y) / length
        across = (turned_x * y - turned_y * x) / length
        discs = along.square() + across.square() < radius.square()
        rectangles = (along.abs() < radius) & (across.abs() < radius * (0.2 + 0.8 * ratio))
        covered_LSS = torch.where(torch.arange(_LEAVES)[:, None, None] % 2 == 0, discs, rectangles)
        order = torch.arange(1, _LEAVES + 1)[:, None, None]
        top_SS = (covered_LSS * order).amax(0)  # 0 is the background, which is black
        greys = torch.cat((torch.zeros(1, dtype=torch.float64), 255 * grey.flatten()))
        found.append(greys[top_SS])
    return torch.stack(found)


@cache
def patch_filters(count: int, size: int) -> tuple[Tensor, float]:
    """Return filters in whole numbers, int8 of shape [F, k, k], and how many of them are a 1.

    A filter's response is the product of two whitened patches: that of an image, and one of dead leaves of
    length 1. The weights of a filter sum to 0.
    """
    generator = torch.Generator().manual_seed(0)
    images_NSS = dead_leaves(generator, _IMAGES, _SIDE)
    patches_Pk = images_NSS.unfold(1, size, 1).unfold(2, size, 1).reshape(-1, size * size)
    patches_Pk = patches_Pk[torch.randperm(len(patches_Pk), generator=generator)]
    patches_Pk = patches_Pk - patches_Pk.mean(1, keepdim=True)
    variance_P1 = patches_Pk.square().sum(1, keepdim=True) / (size * size - 1)
    patches_Pk = (patches_Pk / (variance_P1 + CONTRAST).sqrt())[variance_P1[:, 0] > _FLAT]
    variances, axes = torch.linalg.eigh(patches_Pk.T @ patches_Pk / len(patches_Pk))
    whitening_kk = axes / (variances + _WHITENING).sqrt() @ axes.T
    whitened_Pk = nn.functional.normalize(patches_Pk @ whitening_kk)
    chosen = whitened_Pk[:1]
    for patch_k in whitened_Pk[1:]:
        if len(chosen) == count:
            break
        if (chosen @ patch_k).abs().max() < _ALIKE:
            chosen = torch.cat((chosen, patch_k[None]))
    return whole_filters((chosen @ whitening_kk).view(-1, size, size))
