"""What an anatomy measures, against second implementations that share no code with it."""

from itertools import permutations
from math import perm

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from lethe.experiments.anatomy.dissection import layers_between
from lethe.experiments.anatomy.forgetting_events import confusion, count_events
from lethe.experiments.anatomy.line import Line, curvature, measure_line
from lethe.experiments.anatomy.network import Images, Network
from lethe.experiments.anatomy.plane import Plane, best_share, grid, surfaces
from lethe.experiments.anatomy.readout import PENALTY, Diagnosis, diagnose, fit_readout
from lethe.experiments.anatomy.similarity import linear_cka
from lethe.experiments.anatomy.training import due
from lethe.learners.gradient.backbones import build
from lethe.wire import Layout

LAYOUT = Layout(height=8, width=8, classes=4)
Numbers = npt.NDArray[np.float64]


def images(count: int, seed: int = 0, layout: Layout = LAYOUT) -> Images:
    """Images whose classes are blobs of different places, with noise."""
    dice = torch.Generator().manual_seed(seed)
    y_N = torch.randint(layout.classes, (count,), generator=dice)
    centres = torch.rand(layout.classes, *layout.shape, generator=torch.Generator().manual_seed(99)) - 0.5
    x_NCHW = centres[y_N] + 0.5 * torch.randn(count, *layout.shape, generator=dice)
    return Images("blobs", x_NCHW, y_N)


def network(backbone: str = "small-cnn") -> tuple[Network, Tensor, Tensor]:
    """A network and two points of its weights."""
    first, second = (build(backbone, LAYOUT, seed).state_dict() for seed in (1, 2))
    made = Network(backbone, LAYOUT)
    return made, made.flatten(first), made.flatten(second)


def hsic_by_definition(k: Numbers, l: Numbers) -> float:  # noqa: E741 - the paper's letter
    """The U-statistic over pairs, triples and quadruples of distinct indices, one by one."""
    n = len(k)
    pairs = sum(k[i, j] * l[i, j] for i, j in permutations(range(n), 2)) / perm(n, 2)
    triples = sum(k[i, j] * l[i, q] for i, j, q in permutations(range(n), 3)) / perm(n, 3)
    quadruples = sum(k[i, j] * l[q, r] for i, j, q, r in permutations(range(n), 4)) / perm(n, 4)
    return float(pairs - 2 * triples + quadruples)


def test_cka_is_the_ratio_of_u_statistics() -> None:
    dice = np.random.default_rng(0)
    batches = [(dice.normal(size=(7, 5)), dice.normal(size=(7, 3))) for _ in range(2)]
    batches = [(x, np.hstack([y, x[:, :2]])) for x, y in batches]  # something in common
    grams = [(x @ x.T, y @ y.T) for x, y in batches]
    both, first, second = (
        sum(hsic_by_definition(*pair) for pair in pairs)
        for pairs in (grams, [(k, k) for k, _ in grams], [(m, m) for _, m in grams])
    )
    ours = linear_cka((torch.from_numpy(x), torch.from_numpy(y)) for x, y in batches)
    assert ours == pytest.approx(both / np.sqrt(first * second), abs=1e-3)


def u_centred(gram: Numbers) -> Numbers:
    """Székely & Rizzo 2014: the matrix whose rows sum to 0 off the diagonal."""
    n = len(gram)
    gram = gram - np.diag(np.diag(gram))
    rows = gram.sum(0) / (n - 2)
    centred = gram - rows[:, None] - rows[None, :] + gram.sum() / ((n - 1) * (n - 2))
    return np.asarray(centred - np.diag(np.diag(centred)))


def test_cka_of_a_networks_layers_is_that_of_its_modules_run_one_after_the_other() -> None:
    seen = images(120)
    made, before_V, after_V = network()
    sides: list[list[Numbers]] = []
    for vector_V in (before_V, after_V):
        model = build("small-cnn", LAYOUT, 0).eval()
        model.load_state_dict(made.named(vector_V))
        x, activations = seen.x_NCHW, []
        assert isinstance(model, torch.nn.Sequential)
        with torch.inference_mode():
            for module in model:
                x = module(x)
                if list(module.parameters()):
                    activations.append(x.flatten(1).double().numpy())
        sides.append(activations)
    expected = []
    for x, y in zip(*sides, strict=True):
        k, l = u_centred(x @ x.T), u_centred(y @ y.T)  # noqa: E741 - the paper's letter
        expected.append((k * l).sum() / np.sqrt((k * k).sum() * (l * l).sum()))
    found = layers_between(made, before_V, after_V, seen)
    assert [layer.cka for layer in found] == pytest.approx(expected, abs=1e-3)
    assert min(expected) < 0.9, "networks of different seeds differ"


def test_cka_does_not_depend_on_rotation_and_scale() -> None:
    x_BF = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    turned = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1)))[0]
    assert linear_cka([(x_BF, 3 * x_BF @ turned)]) == pytest.approx(1, abs=1e-5)
    with pytest.raises(ValueError, match="needs 4"):
        linear_cka([(x_BF[:3], x_BF[:3])])


def test_a_layers_distance_is_relative_to_its_weights() -> None:
    made, before_V, after_V = network("mlp")
    moved = {name: tensor.clone() for name, tensor in made.named(before_V).items()}
    moved["3.weight"] *= 1.5
    moved["3.bias"] *= 1.5
    found = layers_between(made, before_V, made.flatten(moved), images(20))
    assert [layer.distance for layer in found] == pytest.approx([0, 0.5, 0])
    assert len(found) == len(layers_between(made, before_V, after_V, images(20)))


def cross_entropy(scores: Numbers, y: Numbers) -> float:
    shifted = scores - scores.max(1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(y)), y.astype(int)]))


def test_the_line_is_what_networks_with_mixed_weights_measure() -> None:
    seen = images(150)
    made, before_V, after_V = network()
    line = measure_line(made, before_V, after_V, seen, steps=5)
    before, after = made.named(before_V), made.named(after_V)
    losses, accuracies = [], []
    for alpha in (0, 0.25, 0.5, 0.75, 1):
        model = build("small-cnn", LAYOUT, 0).eval()
        model.load_state_dict({name: (1 - alpha) * before[name] + alpha * after[name] for name in before})
        scores = model(seen.x_NCHW).detach().double().numpy()
        losses.append(cross_entropy(scores, seen.y_N.numpy()))
        accuracies.append(float((scores.argmax(1) == seen.y_N.numpy()).mean()))
    assert line.loss == pytest.approx(losses, abs=1e-3)
    assert line.accuracy == pytest.approx(accuracies, abs=1e-3)
    above = [
        loss - ((1 - a) * losses[0] + a * losses[-1]) for a, loss in zip(line.alphas, losses, strict=True)
    ]
    assert line.barrier == pytest.approx(max(above), abs=1e-3)


def test_a_barrier_is_measured_from_the_chord() -> None:
    assert Line([0, 0.5, 1], [1.0, 2.5, 2.0], [0, 0, 0]).barrier == 1.0
    assert Line([0, 0.5, 1], [1.0, 1.2, 2.0], [0, 0, 0]).barrier == 0.0, "it sags below the chord"


def softmax_regression(layout: Layout) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(layout.size, layout.classes))


def test_the_quadratic_form_of_a_linear_model_is_the_variance_of_its_change() -> None:
    """For softmax regression ΔᵀHΔ is the mean variance of the change of its scores, under its predictions."""
    seen = images(90)
    made = Network(f"{__name__}:softmax_regression", LAYOUT)
    dice = torch.Generator().manual_seed(3)
    point_V, step_V = (0.1 * torch.randn(4 * 65, generator=dice) for _ in range(2))
    x = np.hstack([seen.x_NCHW.flatten(1).double().numpy(), np.ones((90, 1))])

    def scores(vector_V: Tensor) -> Numbers:
        named = made.named(vector_V.double())
        return np.asarray(x @ np.vstack([named["1.weight"].T.numpy(), named["1.bias"].numpy()]))

    p = np.exp(scores(point_V)) / np.exp(scores(point_V)).sum(1, keepdims=True)
    change = scores(step_V)
    mean = (p * change).sum(1)
    (found,) = curvature(made, point_V, [step_V], seen)
    assert found.quadratic == pytest.approx(((p * change**2).sum(1) - mean**2).mean() / 2, rel=1e-3)
    of_class = change[np.arange(90), seen.y_N.numpy()]
    assert found.slope == pytest.approx((mean - of_class).mean(), rel=1e-3)
    assert found.at(0) == found.loss == pytest.approx(cross_entropy(scores(point_V), seen.y_N.numpy()))
    close = made.measure(point_V + 0.05 * step_V, seen).loss
    assert found.at(0.05) == pytest.approx(close, abs=1e-5)


def readout_by_scipy(x: Numbers, y: Numbers, other: Numbers, classes: int) -> npt.NDArray[np.int64]:
    """Predictions for ``other``, by the same objective in numpy and the optimizer of scipy."""
    mean, deviation = x.mean(0), np.maximum(x.std(0), 1e-8)
    x, other = (x - mean) / deviation, (other - mean) / deviation
    onehot = np.eye(classes)[y.astype(int)]

    def objective(flat: Numbers) -> tuple[float, Numbers]:
        w = flat.reshape(-1, classes)
        scores = x @ w[:-1] + w[-1]
        p = np.exp(scores - scores.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        gap = (p - onehot) / len(x)
        loss = cross_entropy(scores, y) + PENALTY / 2 * float((w[:-1] ** 2).sum())
        return loss, np.vstack([x.T @ gap + PENALTY * w[:-1], gap.sum(0)]).ravel()

    start = np.zeros((x.shape[1] + 1) * classes)
    done = minimize(
        objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-8}
    )
    w = done.x.reshape(-1, classes)
    return np.asarray((other @ w[:-1] + w[-1]).argmax(1))


def test_the_diagnosis_is_that_of_another_optimizer() -> None:
    fitting, held_out = images(400, seed=1), images(2000, seed=2)
    made, before_V, after_V = network()
    untrained_V = made.flatten(build("small-cnn", LAYOUT, 5).state_dict())
    found = diagnose(made, before_V, after_V, untrained_V, (fitting, held_out), LAYOUT.classes)
    expected = []
    for vector_V in (before_V, after_V, untrained_V):
        model = build("small-cnn", LAYOUT, 0).eval()
        model.load_state_dict(made.named(vector_V))
        assert isinstance(model, torch.nn.Sequential)
        with torch.inference_mode():
            fit, other = (model[:-1](seen.x_NCHW).double().numpy() for seen in (fitting, held_out))
        predicted = readout_by_scipy(fit, fitting.y_N.numpy(), other, LAYOUT.classes)
        expected.append(float((predicted == held_out.y_N.numpy()).mean()))
    assert [found.refitted_before, found.refitted_after, found.refitted_untrained] == pytest.approx(
        expected, abs=1e-3
    )
    assert found.before == made.measure(before_V, held_out).accuracy
    assert min(expected) > 0.6 > found.before, "a new readout reads random features, that of another does not"


def test_what_a_readout_recovers_and_what_is_gone_are_told_apart() -> None:
    found = Diagnosis(0.98, 0.30, 0.985, 0.95, 0.90)
    assert (found.lost, found.recovered, found.representation) == pytest.approx((0.68, 0.65, 0.035))


def test_a_dead_unit_does_not_break_a_readout() -> None:
    seen = images(200)
    features_NF = torch.cat([seen.x_NCHW.flatten(1), torch.zeros(200, 1)], 1)
    assert fit_readout(features_NF, seen.y_N, 4).accuracy(features_NF, seen.y_N) > 0.95


def test_a_plane_holds_the_points_that_it_is_spanned_by() -> None:
    dice = torch.Generator().manual_seed(0)
    points_PV = torch.randn(3, 40, generator=dice)
    plane = Plane.through(*points_PV)
    coordinates_P2 = plane.coordinates(points_PV)
    assert coordinates_P2[1, 1] == pytest.approx(0, abs=1e-5), "the first axis leads to the second point"
    for point_V, (x, y) in zip(points_PV, coordinates_P2.tolist(), strict=True):
        torch.testing.assert_close(plane.at(x, y), point_V)
    assert plane.share(points_PV) == pytest.approx(1)
    with pytest.raises(ValueError, match="one line"):
        Plane.through(points_PV[0], points_PV[1], points_PV[0].lerp(points_PV[1], 0.3))


def test_no_plane_shows_more_than_the_principal_components() -> None:
    points_PV = torch.randn(12, 40, generator=torch.Generator().manual_seed(1))
    plane = Plane.through(points_PV[0], points_PV[1], points_PV[2])
    centred = (points_PV - points_PV.mean(0)).numpy()
    squares = np.linalg.svd(centred, compute_uv=False) ** 2
    assert best_share(points_PV) == pytest.approx(squares[:2].sum() / squares.sum(), abs=1e-5)
    assert 0 < plane.share(points_PV) < best_share(points_PV)


def test_a_surface_is_measured_at_the_points_of_its_grid() -> None:
    made, before_V, after_V = network("mlp")
    start_V = made.flatten(build("mlp", LAYOUT, 3).state_dict())
    plane = Plane.through(before_V, after_V, start_V)
    axes = grid(plane.coordinates(torch.stack([before_V, after_V, start_V])), 4)
    rows = []
    surface = surfaces(made, plane, axes, [images(30)], lambda: rows.append(1))
    assert len(rows) == 4
    assert min(axes[0]) < 0 < max(axes[0])
    at = made.measure(plane.at(axes[0][1], axes[1][2]), images(30))
    assert (surface.loss["blobs"][2][1], surface.accuracy["blobs"][2][1]) == (at.loss, at.accuracy)


def test_stitched_networks_take_their_layers_from_both_sides() -> None:
    made, below_V, above_V = network()
    assert torch.equal(made.stitched(below_V, above_V, 0), above_V)
    assert torch.equal(made.stitched(below_V, above_V, 4), below_V)
    mixed = made.named(made.stitched(below_V, above_V, 2))
    assert torch.equal(mixed["3.weight"], made.named(below_V)["3.weight"])
    assert torch.equal(mixed["7.bias"], made.named(above_V)["7.bias"])


def test_forgetting_events_are_counted_for_each_sample() -> None:
    y_N = torch.tensor([1, 1, 1, 1])
    predicted_PN = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 1], [1, 1, 0, 0], [1, 0, 0, 1]])
    found = count_events(predicted_PN, y_N)
    assert found.samples == {0: 1, 1: 1, 2: 1}
    assert (found.relearned, found.unknown) == (0, 1)
    assert count_events(predicted_PN[:3], y_N).relearned == 1
    assert confusion(torch.tensor([2, 0, 2]), torch.tensor([1, 0, 1]), 3) == [[1, 0, 0], [0, 0, 2], [0, 0, 0]]


@pytest.mark.parametrize(("length", "batch"), [(1000, 64), (64, 64), (10, 64), (20_000, 512)])
def test_points_are_recorded_from_the_first_batch_to_the_last(length: int, batch: int) -> None:
    wanted = due(length, batch)
    assert wanted == sorted(set(wanted))
    assert (wanted[0], wanted[-1]) == (min(length, batch), length)
