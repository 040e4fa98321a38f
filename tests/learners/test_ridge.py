"""Ridge regression on fixed features: the solution of exact sums, and when it is computed."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lethe.errors import InvalidSetting
from lethe.learners.analytic.refresh import RefreshSchedule
from lethe.learners.analytic.ridge import Ridge, RidgeOptions
from lethe.learners.base import LearnerContext
from lethe.learners.features.wavelet_features import WaveletFeatures
from lethe.wire import Layout

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


def test_it_predicts_the_solution_of_the_normal_equations() -> None:
    x_BCHW, y_B = images(100)
    features = WaveletFeatures(LAYOUT, 0, SMALL.waves, CPU)
    phi = features(x_BCHW).double() * features.scales
    A = phi.T @ phi + SMALL.penalty * torch.eye(features.count, dtype=torch.float64)
    W = torch.linalg.solve(A, phi.T @ nn.functional.one_hot(y_B, 4).double())
    unseen, _ = images(30, seed=1)
    expected = (features(unseen).double() * features.scales @ W / SMALL.temperature).softmax(1).float()
    torch.testing.assert_close(learned(x_BCHW, y_B, 30).predict_proba(unseen), expected, atol=1e-4, rtol=1e-4)


def test_learn_predicts_from_the_last_due_solve_and_reports_the_squared_error() -> None:
    learner = Ridge(CONTEXT)
    x_BCHW, y_B = images(16)
    assert learner.learn(x_BCHW, y_B).loss is None
    expected = learner.predict_proba(images(4, seed=1)[0]).argmax(1)  # 16 samples: the first solve was due
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
    expected = learner.predict_proba(images(4, seed=2)[0]).argmax(1)
    assert torch.equal(learner.learn(*images(4, seed=2)).predicted_B, expected)


def test_a_learner_that_saw_nothing_finds_all_classes_equally_likely() -> None:
    learner = Ridge(CONTEXT)
    torch.testing.assert_close(learner.predict_proba(images(3)[0]), torch.full((3, 4), 0.25))


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


@given(st.integers(1, 200), st.integers(1, 300), st.lists(st.integers(1, 700), min_size=1, max_size=60))
def test_solves_are_at_multiples_and_where_samples_have_grown_fourfold(
    first: int, every: int, batches: list[int]
) -> None:
    schedule, samples, last = RefreshSchedule(first, every), 0, 0
    for batch in batches:
        samples += batch
        grown, multiple = 4 * last if last else first, samples // every > last // every
        passed = schedule.passed(samples)
        assert passed == (samples >= grown or (multiple and last > 0))
        if passed:
            last = samples
