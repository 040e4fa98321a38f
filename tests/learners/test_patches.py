"""Responses to patches of dead leaves."""

import pytest
import torch
from torch import Tensor, nn

from lethe.learners.features.morlet import BLACK
from lethe.learners.features.patch_filters import CONTRAST, dead_leaves, patch_filters
from lethe.learners.features.patch_maps import (
    CELLS,
    FILTERS,
    STEPS,
    ConvolvedPatches,
    PatchSums,
    responses_per_cell,
)
from lethe.learners.features.wavelet_features import WaveletFeatures
from lethe.wire import Layout
from tests.support.block_images import images

CPU = torch.device("cpu")


def pixels(*shape: int) -> Tensor:
    """Return int8 pixels, some images of which are faint or flat."""
    random = torch.Generator().manual_seed(0)
    x_NHW = torch.randint(256, shape, generator=random)
    x_NHW[0] = 200
    x_NHW[1] = x_NHW[1] // 32
    return (x_NHW + BLACK).to(torch.int8)


def plain_sums(x_NHW: Tensor) -> Tensor:
    """Return the sums of rectified responses in float64, straight from their definition."""
    filters_Fkk, units = patch_filters(FILTERS, 7)
    padded = nn.functional.pad(x_NHW.double() - BLACK, (1,) * 4)
    windows = padded.unfold(1, 7, 1).unfold(2, 7, 1).flatten(3)
    contrast = (windows.var(-1, keepdim=True) + CONTRAST).sqrt()
    normal = (windows - windows.mean(-1, keepdim=True)) / contrast
    response = torch.einsum("nhwk,fk->nfhw", normal, filters_Fkk.double().flatten(1) / units)
    both = torch.cat((response, -response), 1).sub(0.25).clamp_min(0)
    size = responses_per_cell(*x_NHW.shape[1:])
    return size * nn.functional.adaptive_avg_pool2d(both, CELLS)


SHAPES = [(5, 28, 28), (19, 32, 32), (3, 8, 12), (2, 24, 16)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_both_ways_to_compute_them_give_the_same_sums(shape: tuple[int, int, int]) -> None:
    x_NHW = pixels(*shape)
    sums = PatchSums(*shape[1:], CPU)(x_NHW)
    assert sums.shape == (shape[0], 2 * FILTERS, CELLS, CELLS)
    assert torch.equal(sums, ConvolvedPatches(*shape[1:], CPU)(x_NHW))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_are_those_of_whitened_normal_patches_but_for_rounding(shape: tuple[int, int, int]) -> None:
    x_NHW = pixels(*shape)
    sums = PatchSums(*shape[1:], CPU)(x_NHW).double() / STEPS
    rounded = 0.5 / STEPS * responses_per_cell(*shape[1:])
    torch.testing.assert_close(sums, plain_sums(x_NHW), rtol=1e-5, atol=rounded)


def test_a_flat_image_responds_at_its_border_alone() -> None:
    x_NHW = torch.full((1, 32, 32), 127, dtype=torch.int8)
    sums = PatchSums(32, 32, CPU)(x_NHW)[0]
    assert not sums[:, 1:3, 1:3].any()
    assert sums[:, 0].any()
    assert not PatchSums(32, 32, CPU)(torch.full_like(x_NHW, BLACK)).any()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(8, 64), (32, 32), (33, 17), (64, 64), (9, 31)])
def test_images_of_many_sizes_are_taken(channels: int, height: int, width: int) -> None:
    layout = Layout(channels=channels, height=height, width=width)
    features = WaveletFeatures(layout, 0, 100, CPU, patches=True)
    x_BCHW = images(5, layout)
    phi = features(x_BCHW)
    with torch.no_grad():
        assert torch.equal(features.module()(x_BCHW), phi.float())


def test_patches_change_the_random_waves_alone() -> None:
    layout = Layout(height=28, width=28)
    x_BCHW = images(3, layout)
    without, with_them = (
        WaveletFeatures(layout, 0, 50, CPU, patches=patches)(x_BCHW) for patches in (False, True)
    )
    assert torch.equal(without[:, :-51], with_them[:, :-51])
    assert not torch.equal(without, with_them)


def test_the_weights_of_a_filter_sum_to_0() -> None:
    filters_Fkk, _ = patch_filters(FILTERS, 7)
    assert filters_Fkk.shape == (FILTERS, 7, 7)
    assert not filters_Fkk.to(torch.int64).sum((1, 2)).any()


def test_filters_differ() -> None:
    filters_Fk = nn.functional.normalize(patch_filters(FILTERS, 7)[0].double().flatten(1))
    alike_FF = filters_Fk @ filters_Fk.T - torch.eye(FILTERS)
    assert alike_FF.abs().max() < 0.9


def test_dead_leaves_are_overlapping_shapes_of_all_greys() -> None:
    images_NSS = dead_leaves(torch.Generator().manual_seed(1), 4, 48)
    assert images_NSS.shape == (4, 48, 48)
    assert 0 <= images_NSS.min() < 20
    assert 235 < images_NSS.max() <= 255
    edges = (images_NSS.diff(dim=2) != 0).double().mean()
    assert 0.05 < edges < 0.5
