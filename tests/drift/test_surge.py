"""A surge of the loss is noticed at once, noise is not, and nothing is for a while after."""

import math

import numpy as np
import pytest

from lethe.drift.surge import HORIZON, LEAST_DEVIATION, RARE, SHIFT, SurgeTest


def of_batches(losses: list[float]) -> list[int]:
    test = SurgeTest()
    return [number for number, loss in enumerate(losses) if test.add(loss) is not None]


def in_a_segment(seed: int, count: int, wrong: float = 0.03, at_first: float | None = None) -> list[float]:
    """Losses of batches of 64: of a share of images that are wrong, and next to nothing of the rest.

    The share falls from ``at_first`` to ``wrong``.
    """
    rng = np.random.default_rng(seed)
    shares = np.geomspace(wrong if at_first is None else at_first, wrong, count)
    losses = rng.gamma(np.maximum(rng.binomial(64, shares), 0.1), 2.0) / 64
    return [float(loss) for loss in losses]


@pytest.mark.parametrize("seed", range(5))
def test_the_first_batch_of_another_segment_is_a_surge(seed: int) -> None:
    assert of_batches(in_a_segment(seed, 300) + [2.5] * 40) == [300]


@pytest.mark.parametrize("wrong", [0.003, 0.03, 0.2])
@pytest.mark.parametrize("seed", range(5))
def test_the_noise_of_a_segment_is_none(seed: int, wrong: float) -> None:
    assert of_batches(in_a_segment(seed, 2000, wrong)) == []
    assert of_batches(in_a_segment(seed, 2000, wrong, at_first=0.9)) == [], "while it is learned"


@pytest.mark.parametrize("seed", range(5))
def test_a_segment_that_blends_in_is_noticed_by_many_small_rises(seed: int) -> None:
    losses = in_a_segment(seed, 400)
    blended = [loss + max(0, batch - 300) * 0.03 for batch, loss in enumerate(losses)]
    assert 300 < of_batches(blended)[0] <= 330


def test_one_very_wrong_image_is_no_surge_of_a_learner_that_is_always_right() -> None:
    assert of_batches([1e-6] * 200 + [16 / 64] + [1e-6] * 200) == []
    assert of_batches([0.0] * 200 + [1.0]) == [200]


def test_it_waits_at_the_start_and_after_a_warning() -> None:
    assert of_batches([0.1, 9.0, *[0.1] * (2 * HORIZON)]) == []
    usual, surge = [0.1] * HORIZON, [9.0]
    assert of_batches(usual + surge + usual[1:] + surge + usual) == [HORIZON]
    assert of_batches(usual + surge + usual + surge) == [HORIZON, 2 * HORIZON + 1]


def test_the_ratio_is_to_the_usual_loss() -> None:
    test = SurgeTest()
    for _ in range(HORIZON):
        assert test.add(0.25) is None
    assert test.add(2.5) == pytest.approx(10)


def test_the_evidence_of_one_batch_is_its_distance_in_deviations() -> None:
    enough = (math.log(RARE) + SHIFT**2 / 2) / SHIFT
    for z, found in ((enough - 0.01, []), (enough + 0.01, [HORIZON])):
        assert of_batches([1.0] * HORIZON + [(1 + z * LEAST_DEVIATION) ** 2]) == found


@pytest.mark.parametrize("loss", [-1.0, 0.0])
def test_a_loss_without_a_root_is_taken_as_none(loss: float) -> None:
    assert of_batches([loss] * 200) == []
