"""SLDA and nearest class mean: sums that do not depend on the order of the samples."""

import pytest
import torch
from torch import Tensor

from lethe.errors import InvalidSetting
from lethe.learners.analytic.ncm import NCM
from lethe.learners.analytic.slda import SLDA
from lethe.learners.base import Learner, LearnerContext
from lethe.learners.features.wavelet_features import WaveletFeatures
from lethe.wire import Layout

pytestmark = pytest.mark.usefixtures("one_thread")

LAYOUT = Layout(height=12, width=12, classes=4)
CONTEXT = LearnerContext(LAYOUT, options={"waves": 40})


def images(seed: int, count: int = 400) -> tuple[Tensor, Tensor]:
    """Noise with a bright corner for each of classes 0 to 2; there is none of class 3."""
    generator = torch.Generator().manual_seed(seed)
    y_N = torch.randint(3, (count,), generator=generator)
    corners_N122 = torch.nn.functional.one_hot(y_N, 4).view(count, 1, 2, 2)
    bright = 60 * corners_N122.repeat_interleave(6, 2).repeat_interleave(6, 3)
    return (bright + torch.randint(150, (count, 1, 12, 12), generator=generator)).to(torch.uint8), y_N


def learned(kind: type[Learner], x_NCHW: Tensor, y_N: Tensor, size: int) -> Learner:
    learner = kind(CONTEXT)
    for start in range(0, len(y_N), size):
        learner.learn(x_NCHW[start : start + size], y_N[start : start + size])
    return learner


@pytest.mark.parametrize("kind", [SLDA, NCM])
def test_the_order_of_the_samples_changes_nothing_but_rounding(kind: type[Learner]) -> None:
    x_NCHW, y_N = images(0)
    sorted_N = y_N.argsort(stable=True)
    one, other = learned(kind, x_NCHW, y_N, 50), learned(kind, x_NCHW[sorted_N], y_N[sorted_N], 31)
    unseen, _ = images(1, 100)
    assert torch.allclose(one.predict_proba(unseen), other.predict_proba(unseen), atol=1e-3)


@pytest.mark.parametrize("kind", [SLDA, NCM])
def test_a_class_that_was_never_seen_is_never_predicted(kind: type[Learner]) -> None:
    learner = learned(kind, *images(0), 50)
    p_BK = learner.predict_proba(images(1, 200)[0])
    assert p_BK[:, 3].max() < 1e-6


def features_of(x_NCHW: Tensor) -> Tensor:
    return WaveletFeatures(LAYOUT, 0, 40, torch.device("cpu"))(x_NCHW).double()


def test_slda_is_the_discriminant_of_all_samples_about_their_final_means() -> None:
    x_NCHW, y_N = images(0)
    phi_ND, unseen_BD = features_of(x_NCHW), features_of(images(1, 50)[0])
    means_KD = torch.stack([phi_ND[y_N == k].mean(0) for k in range(3)])
    centred_ND = phi_ND - means_KD[y_N]
    covariance_DD = centred_ND.T @ centred_ND / len(y_N)
    shrunk_DD = (1 - 1e-3) * covariance_DD
    shrunk_DD += 1e-3 * covariance_DD.diagonal().mean() * torch.eye(len(shrunk_DD))
    away_BKD = unseen_BD[:, None] - means_KD
    distances_BK = (away_BKD @ torch.linalg.inv(shrunk_DD) * away_BKD).sum(2)
    expected_BK = (-distances_BK / 2 + y_N.bincount().double().log()).softmax(1)
    p_BK = learned(SLDA, x_NCHW, y_N, 50).predict_proba(images(1, 50)[0])
    assert torch.allclose(p_BK[:, :3].double(), expected_BK, atol=1e-3)


def test_ncm_takes_the_class_of_the_nearest_mean() -> None:
    x_NCHW, y_N = images(0)
    unseen, _ = images(1, 200)
    phi_ND = features_of(x_NCHW)
    means_KD = torch.stack([phi_ND[y_N == k].mean(0) for k in range(3)])
    nearest_B = torch.cdist(features_of(unseen), means_KD).argmin(1)
    assert torch.equal(learned(NCM, x_NCHW, y_N, 50).predict_proba(unseen).argmax(1), nearest_B)


@pytest.mark.parametrize("shrinkage", [0, 1.5, float("nan")])
def test_a_shrinkage_that_is_none_is_refused_by_name(shrinkage: float) -> None:
    with pytest.raises(InvalidSetting, match=r"learner\.options\.shrinkage"):
        SLDA(LearnerContext(LAYOUT, options={"shrinkage": shrinkage}))
