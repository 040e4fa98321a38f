"""EWC, SI and MAS: each importance against its formula, and the pull towards the anchors."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from lethe.learners.base import LearnerContext
from lethe.learners.gradient.ewc import EWC
from lethe.learners.gradient.mas import MAS
from lethe.learners.gradient.si import SI
from lethe.learners.gradient.weight_importance import WeightImportanceLearner
from lethe.learners.state import JSON
from lethe.wire import Layout

LAYOUT = Layout(height=8, width=8, classes=4)
KINDS: list[type[WeightImportanceLearner]] = [EWC, SI, MAS]
Batches = list[tuple[Tensor, Tensor]]


def batches(count: int, size: int = 16, seed: int = 0) -> Batches:
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randint(256, (size, *LAYOUT.shape), dtype=torch.uint8, generator=generator),
            torch.randint(LAYOUT.classes, (size,), generator=generator),
        )
        for _ in range(count)
    ]


def anchored(kind: type[WeightImportanceLearner], **options: JSON) -> WeightImportanceLearner:
    """Return a learner that steps with plain gradient descent, so that each step is easy to follow."""
    plain: dict[str, JSON] = {"backbone": "mlp", "optimizer": "SGD", "lr": 0.1, "lag": 0}
    return kind(LearnerContext(LAYOUT, seed=1, options=plain | options))


def of(learner: WeightImportanceLearner, kind: str) -> dict[str, Tensor]:
    """Return a copy of one kind of tensor of the state, by the name of the parameter."""
    prefix = f"{kind}."
    tensors = learner.state().tensors
    return {name.removeprefix(prefix): t.clone() for name, t in tensors.items() if name.startswith(prefix)}


def network(weights: dict[str, Tensor]) -> nn.Module:
    from lethe.learners.gradient.backbones import build

    model = build("mlp", LAYOUT, 0)
    model.load_state_dict(weights)
    return model


def gradients(
    weights: dict[str, Tensor], of_scores: Callable[[Tensor], Tensor], x: Tensor
) -> dict[str, Tensor]:
    """Return the gradients of a function of the scores, by the name of the parameter."""
    model = network(weights)
    torch.autograd.backward(of_scores(model(x / 127.5 - 1)))
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def cross_entropy_with(y_B: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda scores_BK: nn.functional.cross_entropy(scores_BK, y_B)


def scaled(importance: dict[str, Tensor]) -> dict[str, Tensor]:
    mean = torch.cat([tensor.flatten() for tensor in importance.values()]).mean()
    return {name: tensor / mean for name, tensor in importance.items()}


def steps(
    learner: WeightImportanceLearner, seen: Batches
) -> Iterator[tuple[Tensor, Tensor, dict[str, Tensor], dict[str, Tensor]]]:
    """Learn batch after batch; yield each with the weights before and after."""
    for x_BCHW, y_B in seen:
        before = of(learner, "model")
        learner.learn(x_BCHW, y_B)
        yield x_BCHW, y_B, before, of(learner, "model")


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(actual[name], tensor, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_ewc_importance_is_a_power_of_the_running_mean_of_squared_gradients(power: float) -> None:
    learner = anchored(EWC, horizon=64, power=power)
    fisher: dict[str, Tensor] = {}
    for x_BCHW, y_B, before, _ in steps(learner, batches(6)):
        g = gradients(before, cross_entropy_with(y_B), x_BCHW)
        for name, gradient in g.items():
            fisher[name] = 0.75 * fisher.get(name, torch.zeros(())) + 0.25 * 16 * gradient**2
    learner.boundary()
    assert_close(of(learner, "importance"), scaled({name: f**power for name, f in fisher.items()}))


def test_si_importance_is_the_path_integral_over_the_squared_distance() -> None:
    learner = anchored(SI, damping=0.01)
    begin = of(learner, "model")
    omega = {name: torch.zeros_like(tensor) for name, tensor in begin.items()}
    now = begin
    for x_BCHW, y_B, before, now in steps(learner, batches(6)):
        g = gradients(before, cross_entropy_with(y_B), x_BCHW)
        for name, gradient in g.items():
            omega[name] -= gradient * (now[name] - before[name])
    learner.boundary()
    expected = {name: (omega[name] / ((now[name] - begin[name]) ** 2 + 0.01)).clamp(min=0) for name in omega}
    assert_close(of(learner, "importance"), scaled(expected))


def test_mas_importance_is_the_running_mean_of_the_scores_sensitivity() -> None:
    learner = anchored(MAS, horizon=64, every=32)
    mean: dict[str, Tensor] = {}
    for count, (x_BCHW, _, before, _) in enumerate(steps(learner, batches(6)), 1):
        if count % 2 == 0:  # every 32 samples
            for name, gradient in gradients(before, lambda s: (s**2).sum(1).mean(), x_BCHW).items():
                mean[name] = 0.5 * mean.get(name, torch.zeros(())) + 0.5 * gradient.abs()
    learner.boundary()
    assert_close(of(learner, "importance"), scaled(mean))


@pytest.mark.parametrize("kind", KINDS)
def test_after_a_boundary_each_step_includes_the_penaltys_implicit_step(
    kind: type[WeightImportanceLearner],
) -> None:
    learner = anchored(kind, strength=30.0, every=16) if kind is MAS else anchored(kind, strength=30.0)
    for _ in steps(learner, batches(4)):
        pass
    learner.boundary()
    anchor, importance = of(learner, "anchor"), of(learner, "importance")
    assert_close(anchor, of(learner, "model"))
    for x_BCHW, y_B, before, after in steps(learner, batches(3, seed=1)):
        g = gradients(before, cross_entropy_with(y_B), x_BCHW)
        for name, gradient in g.items():
            moved = before[name] - 0.1 * gradient
            # the zero of the gradient of (θ − moved)² / (2 lr) + λ/2 Ω (θ − θ*)²
            left = (after[name] - moved) / 0.1 + 30.0 * importance[name] * (after[name] - anchor[name])
            torch.testing.assert_close(left, torch.zeros_like(left), rtol=0, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_stronger_the_penalty_the_closer_the_weights_stay(kind: type[WeightImportanceLearner]) -> None:
    def way(strength: float) -> float:
        learner = anchored(kind, strength=strength)
        for _ in steps(learner, batches(20)):
            pass
        learner.boundary()
        anchor = of(learner, "anchor")
        for _ in steps(learner, batches(20, seed=1)):
            pass
        return sum(float((t - anchor[name]).abs().sum()) for name, t in of(learner, "model").items())

    assert way(1e6) < way(10.0) < way(0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_before_the_first_boundary_there_is_no_penalty(kind: type[WeightImportanceLearner]) -> None:
    free, held = anchored(kind, strength=0.0), anchored(kind, strength=1e6)
    for learner in (free, held):
        for _ in steps(learner, batches(5)):
            pass
    assert_close(of(free, "model"), of(held, "model"))


@pytest.mark.parametrize("kind", KINDS)
def test_importance_of_earlier_regimes_fades_and_adds_up(kind: type[WeightImportanceLearner]) -> None:
    learner = anchored(kind, decay=0.5, strength=0.0, **({"every": 16} if kind is MAS else {}))
    means = []
    for seed in range(3):
        for _ in steps(learner, batches(4, seed=seed)):
            pass
        learner.boundary()
        means.append(torch.cat([t.flatten() for t in of(learner, "importance").values()]).mean().item())
    assert means == pytest.approx([1.0, 1.5, 1.75], rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_late_boundary_anchors_the_weights_from_before_it(kind: type[WeightImportanceLearner]) -> None:
    learner = anchored(kind, lag=64)
    seen = {16 * count: after for count, (*_, after) in enumerate(steps(learner, batches(20)), 1)}
    learner.boundary()  # at 320: copies were taken at 16, 80, …, 208, 272
    assert_close(of(learner, "anchor"), seen[208])
    assert_close(of(learner, "model"), seen[208])  # what the steps since have torn is taken back


def test_after_a_boundary_the_optimizer_is_reset() -> None:
    learner = anchored(EWC, optimizer="Adam")
    for _ in steps(learner, batches(3)):
        pass
    assert of(learner, "optimizer")
    learner.boundary()
    assert not of(learner, "optimizer")


def test_a_boundary_right_after_another_changes_nothing() -> None:
    learner = anchored(EWC, lag=64)
    for _ in steps(learner, batches(20)):
        pass
    learner.boundary()
    once = of(learner, "importance")
    for _ in steps(learner, batches(3)):
        pass
    learner.boundary()
    assert_close(of(learner, "importance"), once)
