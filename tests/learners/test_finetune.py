"""Plain gradient descent: its step, its state and its errors."""

import pytest
import torch
from torch import Tensor

from lethe.learners.base import LearnerContext
from lethe.learners.gradient.backbones import build
from lethe.learners.gradient.finetune import Finetune
from lethe.wire import Layout


def images(count: int, layout: Layout, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x_BCHW = torch.randint(256, (count, *layout.shape), dtype=torch.uint8, generator=generator)
    return x_BCHW, torch.randint(layout.classes, (count,), generator=generator)


def test_an_untrained_network_predicts_nearly_uniform_probabilities() -> None:
    learner = Finetune(LearnerContext(Layout()))
    x_BCHW, y_B = images(64, Layout())
    assert learner.predict_proba(x_BCHW).max() < 0.3
    assert learner.learn(x_BCHW, y_B).loss == pytest.approx(2.303, abs=0.1)  # ln 10


def test_learn_returns_the_predictions_from_before_the_step() -> None:
    learner = Finetune(LearnerContext(Layout()))
    for seed in range(3):
        x_BCHW, y_B = images(32, Layout(), seed)
        before_BK = learner.predict_proba(x_BCHW)
        learned = learner.learn(x_BCHW, y_B)
        assert torch.equal(learned.predicted_B, before_BK.argmax(1))
        assert learned.loss == pytest.approx(-before_BK.log()[torch.arange(32), y_B].mean().item(), rel=1e-4)


def test_the_loss_of_a_batch_falls_when_it_is_learned_again() -> None:
    learner = Finetune(LearnerContext(Layout()))
    x_BCHW, y_B = images(32, Layout())
    losses = [learner.learn(x_BCHW, y_B).loss for _ in range(20)]
    assert losses[-1] is not None
    assert losses[0] is not None
    assert losses[-1] < losses[0] / 2


def test_its_step_is_the_step_of_plain_adam_on_cross_entropy() -> None:
    layout = Layout(height=12, width=12, classes=3)
    learner = Finetune(LearnerContext(layout, seed=4, options={"lr": 0.01}))
    model = build("small-cnn", layout, seed=4)
    adam = torch.optim.Adam(model.parameters(), lr=0.01, fused=False, foreach=False)
    for seed in range(3):
        x_BCHW, y_B = images(16, layout, seed)
        learner.learn(x_BCHW, y_B)
        adam.zero_grad()
        torch.autograd.backward(torch.nn.functional.cross_entropy(model(x_BCHW / 127.5 - 1), y_B))
        adam.step()
    for name, expected in model.named_parameters():
        torch.testing.assert_close(
            learner.state().tensors[f"model.{name}"], expected.detach(), rtol=1e-3, atol=1e-4
        )


def test_loading_an_untrained_state_resets_the_optimizer() -> None:
    context = LearnerContext(Layout())
    learner = Finetune(context)
    learner.learn(*images(8, Layout()))
    learner.load_state(Finetune(context).state())
    assert not [name for name in learner.state().tensors if name.startswith("optimizer.")]


def test_a_prediction_of_many_images_is_that_of_each() -> None:
    learner = Finetune(LearnerContext(Layout()))
    x_BCHW, _ = images(1100, Layout())
    torch.testing.assert_close(learner.predict_proba(x_BCHW)[600:620], learner.predict_proba(x_BCHW[600:620]))


def test_images_too_small_for_the_network_are_refused() -> None:
    with pytest.raises(ValueError, match=r"7×28.*8 a side or more"):
        Finetune(LearnerContext(Layout(height=7)))
