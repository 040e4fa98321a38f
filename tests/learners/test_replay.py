"""The learners that store samples: each step against its formula, and the memory."""

import pytest
import torch
from torch import Tensor, nn

from lethe.errors import DivergedLoss
from lethe.learners.base import LearnerContext
from lethe.learners.gradient.agem import AGEM
from lethe.learners.gradient.backbones import build
from lethe.learners.gradient.der import DarkReplay
from lethe.learners.gradient.replay import RehearsalLearner, Replay
from lethe.learners.state import JSON, State
from lethe.wire import Layout

LAYOUT = Layout(height=8, width=8, classes=4)
KINDS: list[type[RehearsalLearner]] = [Replay, DarkReplay, AGEM]


def images(size: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x_BCHW = torch.randint(256, (size, *LAYOUT.shape), dtype=torch.uint8, generator=generator)
    return x_BCHW, torch.randint(LAYOUT.classes, (size,), generator=generator)


def rehearsing(kind: type[RehearsalLearner], **options: JSON) -> RehearsalLearner:
    """Return a learner with plain gradient descent and a memory of one sample, so that draws are known."""
    plain: dict[str, JSON] = {"backbone": "mlp", "optimizer": "SGD", "lr": 0.1, "capacity": 1, "rehearsed": 3}
    return kind(LearnerContext(LAYOUT, seed=1, options=plain | options))


def network(learner: RehearsalLearner) -> nn.Module:
    model = build("mlp", LAYOUT, 0)
    tensors = learner.state().tensors
    model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
    return model


def kept(learner: RehearsalLearner) -> dict[str, Tensor]:
    tensors = learner.state().tensors
    return {n.removeprefix("reservoir."): t for n, t in tensors.items() if n.startswith("reservoir.")}


def gradients(loss: Tensor, model: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters()), retain_graph=True))


def cross_entropy(model: nn.Module, x_BCHW: Tensor, y_B: Tensor) -> Tensor:
    return nn.functional.cross_entropy(model(x_BCHW / 127.5 - 1), y_B)


def assert_steps(learner: RehearsalLearner, before: nn.Module, along: list[Tensor]) -> None:
    """The weights moved from ``before`` against the gradients ``along``."""
    for after, parameter, gradient in zip(
        network(learner).parameters(), before.parameters(), along, strict=True
    ):
        torch.testing.assert_close(after, parameter - 0.1 * gradient, rtol=1e-3, atol=1e-6)


def test_replays_step_follows_the_batch_and_the_stored_samples() -> None:
    learner = rehearsing(Replay)
    learner.learn(*images(1, 0))
    before, (x_BCHW, y_B) = network(learner), images(16, 1)
    loss = cross_entropy(before, x_BCHW, y_B) + cross_entropy(before, *images(1, 0))
    learner.learn(x_BCHW, y_B)
    assert_steps(learner, before, gradients(loss, before))


def test_ders_step_also_follows_the_stored_scores() -> None:
    learner = rehearsing(DarkReplay, scores_weight=0.3, labels_weight=0.6)
    untrained = network(learner)
    x_kept, y_kept = images(1, 0)
    learner.learn(x_kept, y_kept)
    with torch.no_grad():
        torch.testing.assert_close(kept(learner)["scores"], untrained(x_kept / 127.5 - 1))
    before, (x_BCHW, y_B) = network(learner), images(16, 1)
    error = ((before(x_kept / 127.5 - 1) - kept(learner)["scores"]) ** 2).mean()
    loss = cross_entropy(before, x_BCHW, y_B) + 0.3 * error + 0.6 * cross_entropy(before, x_kept, y_kept)
    learner.learn(x_BCHW, y_B)
    assert_steps(learner, before, gradients(loss, before))


def against(seed: int) -> tuple[AGEM, nn.Module, Tensor, Tensor, float]:
    """Return a learner, its network, a batch, and the dot product of batch's and memory's gradient."""
    learner = AGEM(
        LearnerContext(
            LAYOUT, seed=1, options={"backbone": "mlp", "optimizer": "SGD", "lr": 0.1, "capacity": 1}
        )
    )
    for _ in range(3):
        learner.learn(*images(1, 0))
    before, (x_BCHW, y_B) = network(learner), images(1, seed)
    own = gradients(cross_entropy(before, x_BCHW, y_B), before)
    x_kept, y_kept = kept(learner)["pixels"], kept(learner)["label"]
    reference = gradients(cross_entropy(before, x_kept, y_kept), before)
    along = sum(float((a * b).sum()) for a, b in zip(own, reference, strict=True))
    return learner, before, x_BCHW, y_B, along


@pytest.mark.parametrize("opposed", [False, True])
def test_agem_projects_a_step_that_would_raise_the_loss_of_stored_samples(opposed: bool) -> None:
    learner, before, x_BCHW, y_B, along = next(
        found for found in map(against, range(1, 50)) if (found[-1] < 0) == opposed
    )
    x_kept, y_kept = kept(learner)["pixels"].clone(), kept(learner)["label"].clone()
    own = gradients(cross_entropy(before, x_BCHW, y_B), before)
    reference = gradients(cross_entropy(before, x_kept, y_kept), before)
    length = sum(float((b * b).sum()) for b in reference)
    turned = [a - min(along, 0) / length * b for a, b in zip(own, reference, strict=True)]
    learner.learn(x_BCHW, y_B)
    assert_steps(learner, before, turned)


def test_stored_scores_that_are_not_finite_are_refused_before_anything_changes() -> None:
    learner = rehearsing(DarkReplay)
    learner.learn(*images(4, 0))
    state = learner.state()
    spoilt = dict(state.tensors) | {"reservoir.scores": torch.full((1, 4), torch.nan)}
    learner.load_state(State(spoilt, state.values))
    before = {name: tensor.clone() for name, tensor in learner.state().tensors.items()}
    with pytest.raises(DivergedLoss, match="objective nan"):
        learner.learn(*images(4, 1))
    after = learner.state().tensors
    assert all(torch.equal(after[n], t) for n, t in before.items() if n != "reservoir.scores")


@pytest.mark.parametrize("kind", KINDS)
def test_the_memory_has_a_fixed_size_and_samples_the_whole_stream(kind: type[RehearsalLearner]) -> None:
    learner = rehearsing(kind, capacity=20)
    empty = {name: rows.shape for name, rows in kept(learner).items()}
    seen = [images(32, seed) for seed in range(6)]
    for x_BCHW, y_B in seen:
        learner.learn(x_BCHW, y_B)
    rows = kept(learner)
    assert {name: tensor.shape for name, tensor in rows.items()} == empty
    stream = {x.numpy().tobytes(): int(y) for x_BCHW, y_B in seen for x, y in zip(x_BCHW, y_B, strict=True)}
    found = [stream[x.numpy().tobytes()] for x in rows["pixels"]]
    assert found == rows["label"].tolist()
    assert len({x.numpy().tobytes() for x in rows["pixels"]}) == 20


@pytest.mark.parametrize("kind", KINDS)
def test_an_expired_sample_is_nowhere_in_the_state_and_learning_continues(
    kind: type[RehearsalLearner],
) -> None:
    learner = rehearsing(kind, capacity=20)
    x_old, y_old = images(32, 0)
    learner.learn(x_old, y_old)
    assert learner.expire(32) == 20
    assert not any(bool(kept(learner)[name].any()) for name in ("pixels", "label", "number"))
    x_BCHW, y_B = images(32, 1)
    learner.learn(x_BCHW, y_B)  # with nothing to rehearse
    learner.learn(*images(4, 2))
    held = {x.numpy().tobytes() for x in kept(learner)["pixels"]}
    assert not held & {x.numpy().tobytes() for x in x_old}
    assert held & {x.numpy().tobytes() for x in x_BCHW}
