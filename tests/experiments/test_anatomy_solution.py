"""The path and the barrier of learners that solve for their weights, against numpy."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from lethe.experiments.anatomy.plane import principal_plane
from lethe.experiments.anatomy.solution import (
    aligned,
    flat_weights,
    measure_solution,
    solution_line,
    solved_weights,
)
from lethe.learners.base import Learner, LearnerContext
from lethe.learners.fixed_features import FixedFeatures
from lethe.learners.registry import create
from lethe.probeset import ProbeSet
from lethe.wire import Layout

LAYOUT = Layout(height=8, width=8, classes=4)
STEPS = 5
IMAGES = 640


def probe(name: str, seed: int, count: int = IMAGES) -> ProbeSet:
    """Images whose classes are blobs; other seeds have other blobs."""
    dice = np.random.default_rng(seed)
    y_N = dice.integers(0, LAYOUT.classes, count)
    centres = np.random.default_rng(100 + seed).integers(0, 200, (LAYOUT.classes, 1, 8, 8))
    x_NCHW = np.clip(centres[y_N] + dice.integers(0, 56, (count, 1, 8, 8)), 0, 255).astype(np.uint8)
    return ProbeSet(name, x_NCHW, y_N.astype(np.int64), "made up", "none needed")


OLD, NEW = probe("old", 1), probe("new", 2)


def learn(learner: Learner, images: ProbeSet) -> None:
    images_and_labels = (torch.split(torch.tensor(whole), 64) for whole in (images.x_NCHW, images.y_N))
    for x_BCHW, y_B in zip(*images_and_labels, strict=True):
        learner.learn(x_BCHW, y_B)


def learned(learner: Learner) -> list[dict[str, Tensor]]:
    """What ``learner`` solved for at the start, after the old segment and after the new one."""
    points = []
    for images in (None, OLD, NEW):
        if images is not None:
            learn(learner, images)
        learner.predict_proba(torch.tensor(OLD.x_NCHW[:1]))
        points.append(dict(solved_weights(learner)))
    return points


def ridge() -> Learner:
    return create("ridge", LearnerContext(LAYOUT, seed=0, options={"waves": 64}))


def cross_entropy(scores: npt.NDArray[np.float64], y_N: npt.NDArray[np.int64]) -> float:
    shifted = scores - scores.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return float(-log_p[np.arange(len(y_N)), y_N].mean())


def test_the_line_of_ridge_is_that_of_mixed_weights_in_numpy() -> None:
    learner = ridge()
    points = learned(learner)
    assert isinstance(learner, FixedFeatures)
    before = learner.predict_proba(torch.tensor(OLD.x_NCHW))
    line = solution_line(learner, points[1], points[2], OLD, IMAGES, STEPS)
    features = np.asarray(learner.features(torch.tensor(OLD.x_NCHW)), dtype=np.float64)
    W_A, W_B = (np.asarray(point["W"], dtype=np.float64) for point in points[1:])
    scores = [features @ ((1 - a) * W_A + a * W_B) / 0.1 for a in line.alphas]
    expected = [cross_entropy(one, OLD.y_N) for one in scores]
    assert line.loss == pytest.approx(expected, abs=1e-3)
    assert line.accuracy == pytest.approx([float((one.argmax(1) == OLD.y_N).mean()) for one in scores])
    chord = [(1 - a) * expected[0] + a * expected[-1] for a in line.alphas]
    hill = max(loss - level for loss, level in zip(expected, chord, strict=True))
    assert line.barrier == pytest.approx(hill, abs=1e-3)
    assert torch.equal(learner.predict_proba(torch.tensor(OLD.x_NCHW)), before), "it is left as it was"


def test_the_plane_of_the_path_is_that_of_numpys_principal_components() -> None:
    points = flat_weights(learned(ridge()) + learned(ridge())[1:2])
    points[3] *= 1.5
    plane = principal_plane(points)
    centred = points.double().numpy() - points.double().numpy().mean(0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    assert np.abs(plane.coordinates) == pytest.approx(np.abs((left * values)[:, :2]), abs=1e-3)
    assert plane.share == pytest.approx((values[:2] ** 2).sum() / (values**2).sum(), abs=1e-6)


def test_a_regime_that_does_not_exist_yet_is_never_chosen() -> None:
    options = {"waves": 64}
    learner = create("experts", LearnerContext(LAYOUT, seed=0, options=options))
    points = learned(learner)
    assert "1.W" not in points[1]
    assert "1.W" in points[2], "the new segment is another regime"
    same = aligned(points)
    assert [point["1.W"].any().item() for point in same] == [False, False, True]
    line = solution_line(learner, same[1], same[2], OLD, IMAGES, STEPS)
    alone = create("experts", LearnerContext(LAYOUT, seed=0, options=options))
    learn(alone, OLD)
    for learner_then, place in ((alone, 0), (learner, -1)):
        p_NK = learner_then.predict_proba(torch.tensor(OLD.x_NCHW)).double().numpy()
        right = p_NK[np.arange(len(OLD.y_N)), OLD.y_N]
        assert line.loss[place] == pytest.approx(float(-np.log(right).mean()), abs=1e-3)


def test_a_learner_that_solves_for_nothing_has_no_solution() -> None:
    learner = create("ncm", LearnerContext(LAYOUT, seed=0))
    points = learned(learner)
    assert points == [{}, {}, {}]
    assert measure_solution(learner, points, 1, (OLD, NEW), IMAGES, STEPS) is None


def test_a_path_of_slda_has_its_offsets() -> None:
    learner = create("slda", LearnerContext(LAYOUT, seed=0))
    points = learned(learner)
    found = measure_solution(learner, points, 1, (OLD, NEW), IMAGES, STEPS)
    assert found is not None
    assert len(found.path) == len(points)
    assert flat_weights(aligned(points)).shape[1] == points[-1]["W"].numel() + points[-1]["b"].numel()
    assert found.new_line.loss[-1] < found.new_line.loss[0]
