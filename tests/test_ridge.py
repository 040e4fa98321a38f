"""Ridge regression on fixed features: exact sums, whatever the order, and features that are fixed."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from service.errors import InvalidSetting
from service.learners.base import LearnerContext
from service.learners.features import WaveletFeatures
from service.learners.gram import Gram
from service.learners.products import rounded
from service.learners.ridge import Ridge, RidgeOptions
from service.learners.wavelets import ModulusMaps, morlet_bank
from service.wire import Layout

CPU = torch.device("cpu")
LAYOUT = Layout(height=8, width=8, classes=4)
SMALL = RidgeOptions(waves=50, first_refresh=16, refresh_every=64)
CONTEXT = LearnerContext(LAYOUT, options=SMALL.model_dump())


def images(count: int, layout: Layout = LAYOUT, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x_BCHW = torch.randint(256, (count, *layout.shape), dtype=torch.uint8, generator=generator)
    return x_BCHW, torch.randint(layout.classes, (count,), generator=generator)


def learned(x_BCHW: Tensor, y_B: Tensor, batch: int) -> Ridge:
    learner = Ridge(CONTEXT)
    for x, y in zip(torch.split(x_BCHW, batch), torch.split(y_B, batch), strict=True):
        learner.learn(x, y)
    return learner


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000), batch=st.integers(1, 70))
def test_neither_order_nor_batch_size_changes_what_is_known(seed: int, batch: int) -> None:
    x_BCHW, y_B = images(120)
    order = torch.randperm(120, generator=torch.Generator().manual_seed(seed))
    one, other = learned(x_BCHW, y_B, 40), learned(x_BCHW[order], y_B[order], batch)
    unseen, _ = images(30, seed=1)
    torch.testing.assert_close(other.predict(unseen), one.predict(unseen), atol=1e-3, rtol=1e-3)


def test_it_predicts_the_solution_of_the_normal_equations() -> None:
    x_BCHW, y_B = images(100)
    features = WaveletFeatures(LAYOUT, 0, SMALL.waves, CPU)
    phi = features(x_BCHW).double()
    A = phi.T @ phi + SMALL.penalty * torch.eye(features.count, dtype=torch.float64)
    W = torch.linalg.solve(A, phi.T @ nn.functional.one_hot(y_B, 4).double())
    unseen, _ = images(30, seed=1)
    expected = (features(unseen).double() @ W / SMALL.temperature).softmax(1).float()
    torch.testing.assert_close(learned(x_BCHW, y_B, 30).predict(unseen), expected, atol=1e-4, rtol=1e-4)


def test_learn_predicts_from_the_last_due_solve_and_reports_the_squared_error() -> None:
    learner = Ridge(CONTEXT)
    x_BCHW, y_B = images(16)
    assert learner.learn(x_BCHW, y_B).loss is None
    expected = learner.predict(images(4, seed=1)[0]).argmax(1)  # 16 samples: the first solve was due
    report = learner.learn(*images(4, seed=1))
    assert torch.equal(report.predicted_B, expected)
    assert report.loss is not None
    assert report.loss > 0
    W_before = learner.state().tensors["W"].clone()
    learner.learn(*images(8, seed=2))
    assert torch.equal(learner.state().tensors["W"], W_before)  # 28 samples: 64 are due
    learner.learn(*images(36, seed=3))
    assert not torch.equal(learner.state().tensors["W"], W_before)


def test_after_a_boundary_learn_predicts_from_what_is_new_as_soon_as_at_the_start() -> None:
    learner = learned(*images(200), 20)
    learner.boundary()
    learner.learn(*images(16, seed=1))
    expected = learner.predict(images(4, seed=2)[0]).argmax(1)
    assert torch.equal(learner.learn(*images(4, seed=2)).predicted_B, expected)


def test_a_learner_that_saw_nothing_finds_all_classes_equally_likely() -> None:
    learner = Ridge(CONTEXT)
    torch.testing.assert_close(learner.predict(images(3)[0]), torch.full((3, 4), 0.25))


def test_the_sum_grows_by_the_products_of_the_features() -> None:
    gram = Gram(1500, CPU)  # more than one panel
    phi = rounded(torch.randn(12, 1500, generator=torch.Generator().manual_seed(0)))
    gram.add(phi[:7])
    gram.add(phi[7:])
    torch.testing.assert_close(
        gram.upper().triu(), (phi.double().T @ phi.double()).triu(), atol=1e-4, rtol=1e-5
    )


def test_the_solution_of_a_sum_of_several_panels_is_the_ridge_regression() -> None:
    gram = Gram(1100, CPU)
    phi = rounded(torch.randn(40, 1100, generator=torch.Generator().manual_seed(0)))
    gram.add(phi)
    B_DK = torch.randn(1100, 3, generator=torch.Generator().manual_seed(1))
    A_DD = phi.double().T @ phi.double() + 2 * torch.eye(1100, dtype=torch.float64)
    torch.testing.assert_close(gram.solve(B_DK, 2.0), torch.linalg.solve(A_DD, B_DK.double()).float())


def test_the_sum_of_many_batches_rounds_less_than_one_matrix_of_float32_would() -> None:
    phi = rounded(torch.rand(4096, 6, generator=torch.Generator().manual_seed(0)) + 1)
    gram, exact, single = Gram(6, CPU), torch.zeros(6, 6, dtype=torch.float64), torch.zeros(6, 6)
    for _ in range(20):
        for part in torch.split(phi, 64):
            gram.add(part)
            single.addmm_(part.T, part)
            exact.addmm_(part.double().T, part.double())
    assert (gram.upper() - exact).triu().abs().max() < (single - exact).triu().abs().max() / 5


def test_a_sum_left_indefinite_by_rounding_is_solved_with_a_larger_penalty() -> None:
    gram = Gram(2, CPU)
    gram.folded.copy_(torch.diag(torch.tensor([1.0, -0.5])).flatten())
    W_DK = gram.solve(torch.ones(2, 1), 0.1)
    torch.testing.assert_close(W_DK, torch.tensor([[1 / 2], [1 / 0.5]]))


def test_a_sum_that_is_not_finite_has_no_solution() -> None:
    gram = Gram(3, CPU)
    gram.add(torch.full((2, 3), torch.inf))
    with pytest.raises(FloatingPointError, match="3 features"):
        gram.solve(torch.ones(3, 2), 1.0)


@pytest.mark.parametrize("block", [2, 4])
def test_modulus_maps_are_the_averaged_moduli_of_a_convolution(block: int) -> None:
    bank = morlet_bank(7, 0.8, 2.0, 4)
    x_NHW = rounded(torch.rand(3, 8, 12, generator=torch.Generator().manual_seed(0)))
    filters = rounded(torch.cat([bank.real, bank.imag]))[:, None]
    response = nn.functional.conv2d(x_NHW[:, None], filters, padding=3)
    moduli = (response[:, :4].square() + response[:, 4:].square()).sqrt()
    expected = nn.functional.avg_pool2d(moduli, block)
    maps = ModulusMaps(bank, block, CPU)(x_NHW)
    assert maps.shape == (3, 8 // block, 12 // block, 4)
    torch.testing.assert_close(maps.permute(0, 3, 1, 2), expected)


def test_wavelets_do_not_answer_to_flat_areas() -> None:
    assert morlet_bank(7, 0.8, 2.0, 8).sum((1, 2)).abs().max() < 1e-12


def test_features_of_an_image_do_not_depend_on_its_batch() -> None:
    features = WaveletFeatures(LAYOUT, 0, 50, CPU)
    x_BCHW, _ = images(20)
    torch.testing.assert_close(features(x_BCHW)[7:9], features(x_BCHW[7:9]))


@pytest.mark.parametrize("batch", [8, 40, 68, 132, 197])
def test_a_sample_has_the_same_features_to_the_last_bit_at_every_place_of_its_batch(batch: int) -> None:
    layout = Layout(height=28, width=28)
    x_BCHW, _ = images(batch, layout)
    x_BCHW[-4:] = x_BCHW[:4]
    phi = WaveletFeatures(layout, 0, 4600, CPU)(x_BCHW)
    assert torch.equal(phi[-4:], phi[:4])


def test_no_images_have_no_features() -> None:
    features = WaveletFeatures(LAYOUT, 0, 50, CPU)
    assert features(images(0)[0]).shape == (0, features.count)


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 64), (3, 32, 32), (1, 33, 17), (3, 64, 64)])
def test_features_take_grey_and_colour_images_of_many_sizes(channels: int, height: int, width: int) -> None:
    layout = Layout(channels=channels, height=height, width=width)
    features = WaveletFeatures(layout, 0, 10, CPU)
    phi = features(images(2, layout)[0])
    assert phi.shape == (2, features.count)
    assert bool(phi.isfinite().all())


def test_features_see_colour() -> None:
    features = WaveletFeatures(Layout(channels=3, height=8, width=8), 0, 0, CPU)
    x_BCHW = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    x_BCHW[:, 0] = 200
    assert not torch.equal(features(x_BCHW), features(x_BCHW.roll(1, dims=1)))


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        (Layout(channels=2), r"2 channels.*1 or 3"),
        (Layout(height=7), r"7×28.*8 to 64"),
        (Layout(width=65), r"28×65.*8 to 64"),
    ],
)
def test_images_that_the_features_cannot_take_are_refused(layout: Layout, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Ridge(LearnerContext(layout))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("penalty", 0),
        ("penalty", float("nan")),
        ("temperature", -1),
        ("waves", -1),
        ("first_refresh", 0),
        ("refresh_every", 0),
    ],
)
def test_a_bad_hyperparameter_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidSetting, match=rf"^learner\.options\.{field}:"):
        Ridge(LearnerContext(LAYOUT, options={field: value}))
