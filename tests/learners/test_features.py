"""Wavelet features: whole numbers, the same in every batch and on every machine."""

import hashlib
import platform
from resource import RUSAGE_SELF, getrusage

import pytest
import torch
from torch import nn

from lethe.learners.analytic.ridge import Ridge
from lethe.learners.base import LearnerContext
from lethe.learners.features.compression import LARGEST, cosines, logarithms
from lethe.learners.features.morlet import BLACK, ModulusMaps, morlet_bank, whole_bank
from lethe.learners.features.wavelet_features import WaveletFeatures
from lethe.wire import Layout
from tests.support.block_images import images
from tests.support.other_units import AVX2, OTHER_UNITS, printed_with

CPU = torch.device("cpu")
LAYOUT = Layout(height=8, width=8, classes=4)
PATCHES = pytest.mark.parametrize("patches", [False, True], ids=["wavelets", "wavelets+patches"])
GOLDEN = {
    ((1, 28, 28), False): "e53f93b2db103af1ef617743d5f689d8afbc246bf6c758f9d01bf467445487e9",
    ((3, 32, 32), False): "3f5e4f7e3a28a8040fcb7158a4205fb51c7a10c8c25a73b6cac6ebbba17b023d",
    ((1, 33, 47), False): "387f2bc3711f252cfc369d4ab3f70aa7c92f3a6a96062ae361d38bae58087b32",
    ((1, 28, 28), True): "625b00fe8f8fbb863f2ca26eec6622caec013d2ed748f3e022d56545372b8155",
    ((3, 32, 32), True): "51f204a384ab92a14041b878b57a5909c41faf0e550df99398adafea6d93551c",
    ((1, 33, 47), True): "0e401f1d70f5dd04b979ece74545e024450798c1d06c885c746f12f2b1f2680b",
}
"""SHA-256 of the features of 1,000 images of each shape, without and with patches."""


def digest(shape: tuple[int, int, int], patches: bool) -> str:
    channels, height, width = shape
    layout = Layout(channels=channels, height=height, width=width)
    features = WaveletFeatures(layout, 0, 1000, CPU, patches=patches)
    return hashlib.sha256(features(images(1000, layout)).numpy().tobytes()).hexdigest()


@pytest.mark.parametrize(("shape", "patches"), GOLDEN, ids=str)
def test_features_are_the_same_on_every_machine(shape: tuple[int, int, int], patches: bool) -> None:
    assert digest(shape, patches) == GOLDEN[shape, patches]


@OTHER_UNITS
@PATCHES
def test_features_are_the_same_with_other_units(environment: dict[str, str], patches: bool) -> None:
    program = f"from tests.learners.test_features import digest; print(digest((1, 28, 28), {patches}))"
    assert printed_with(environment, program) == GOLDEN[(1, 28, 28), patches]


def faults_per_image() -> float:
    """Return how many pages of memory the system provides for an image, once others were computed."""
    torch.set_num_threads(1)
    features, x_BCHW = WaveletFeatures(Layout(), 0, 4600, CPU), images(480, Layout())
    features(x_BCHW)
    before = getrusage(RUSAGE_SELF).ru_minflt
    features(x_BCHW)
    return (getrusage(RUSAGE_SELF).ru_minflt - before) / len(x_BCHW)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators keep other memory")
@pytest.mark.parametrize("environment", [{}, AVX2], ids=["this CPU", "avx2"])
def test_features_use_their_memory_again(environment: dict[str, str]) -> None:
    program = "from tests.learners.test_features import faults_per_image; print(faults_per_image())"
    assert float(printed_with(environment, program)) < 10


def test_no_entry_of_a_table_is_close_to_a_half() -> None:
    tables = [
        logarithms(4080, 1.0, LARGEST),
        logarithms(1020, 0.42, LARGEST),
        logarithms(1020, 0.42**2, LARGEST),
        cosines(),
    ]
    for table in tables:
        assert min(abs(abs(entry) % 1 - 0.5) for entry in table) > 1e-6


@pytest.mark.parametrize("step", [1, 2])
def test_modulus_maps_are_the_sums_of_the_moduli_of_a_convolution(step: int) -> None:
    bank, _ = whole_bank(morlet_bank(7, 0.8, 2.0, 4))
    x_NHW = torch.randint(256, (3, 8, 12), generator=torch.Generator().manual_seed(0)).double()
    filters = bank.double().flatten(0, 1)[:, None]
    response = nn.functional.conv2d(x_NHW[:, None], filters, padding=3, stride=step)
    moduli = (response[:, :4].square() + response[:, 4:].square()).sqrt()
    expected = 4 * nn.functional.avg_pool2d(moduli, 2)
    maps = ModulusMaps(bank, step, CPU)((x_NHW + BLACK).to(torch.int8))
    assert maps.shape == (3, 4 // step, 6 // step, 4)
    torch.testing.assert_close(maps.permute(0, 3, 1, 2).double(), expected, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("filters", [(7, 0.8, 2.356), (13, 1.6, 1.178)], ids=["fine", "coarse"])
def test_whole_wavelets_are_those_of_the_bank_and_do_not_respond_to_flat_areas(
    filters: tuple[int, float, float],
) -> None:
    bank = morlet_bank(*filters, 8)
    whole, units = whole_bank(bank)
    assert bank.sum((1, 2)).abs().max() < 1e-12
    assert not whole.to(torch.int64).sum((-1, -2)).any()
    middle = whole.shape[-1] // 2
    difference = (whole.double() / units - torch.stack((bank.real, bank.imag))).abs()
    assert difference[..., middle, middle].max() < 13 / units
    difference[..., middle, middle] = 0
    assert difference.max() <= 0.5 / units


@PATCHES
def test_features_of_an_image_do_not_depend_on_its_batch(patches: bool) -> None:
    layout = Layout(height=28, width=28)
    features = WaveletFeatures(layout, 0, 4600, CPU, patches=patches)
    x_BCHW = images(197, layout)
    whole = features(x_BCHW)
    for size in (1, 3, 40, 132):
        assert torch.equal(torch.cat([features(part) for part in torch.split(x_BCHW, size)]), whole)


@PATCHES
def test_no_images_have_no_features(patches: bool) -> None:
    features = WaveletFeatures(LAYOUT, 0, 50, CPU, patches=patches)
    assert features(images(0, LAYOUT)).shape == (0, features.count)


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 64), (3, 32, 32), (1, 33, 17), (3, 64, 64)])
def test_features_take_grey_and_colour_images_of_many_sizes(channels: int, height: int, width: int) -> None:
    layout = Layout(channels=channels, height=height, width=width)
    features = WaveletFeatures(layout, 0, 10, CPU)
    phi = features(images(2, layout))
    assert phi.shape == (2, features.count)
    assert phi.dtype == torch.int8
    assert not torch.equal(phi[0], phi[1])


def test_features_show_colour() -> None:
    features = WaveletFeatures(Layout(channels=3, height=8, width=8), 0, 0, CPU)
    x_BCHW = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    x_BCHW[:, 0] = 200
    assert not torch.equal(features(x_BCHW), features(x_BCHW.roll(1, dims=1)))


@pytest.mark.parametrize("value", [0, 255])
def test_a_flat_image_has_no_coefficients_but_its_brightness_and_its_border(value: int) -> None:
    layout = Layout(height=32, width=32)
    phi = WaveletFeatures(layout, 0, 0, CPU)(torch.full((1, 1, 32, 32), value, dtype=torch.uint8))[0]
    zero, fine_Fhw, coarse_hwF = phi[:64], phi[64:576].view(8, 8, 8), phi[576:-1].view(8, 8, 8)
    assert zero.tolist() == [LARGEST if value else 0] * 64
    assert not fine_Fhw[:, 2:6, 2:6].any()
    assert not coarse_hwF[2:6, 2:6].any()


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        (Layout(channels=2), r"2 channels.*1 or 3.*finetune, takes others"),
        (Layout(height=7), r"7×28.*8 to 64.*finetune, takes others"),
        (Layout(width=65), r"28×65.*8 to 64.*finetune, takes others"),
    ],
)
def test_images_that_the_features_cannot_take_are_refused(layout: Layout, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Ridge(LearnerContext(layout))
