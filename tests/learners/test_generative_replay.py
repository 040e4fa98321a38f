"""Generative replay: the generator draws images like those seen, and old classes are remembered."""

import pytest
import torch
from torch import Tensor

from lethe.learners.base import LearnerContext
from lethe.learners.gradient.autoencoder import Autoencoder
from lethe.learners.gradient.finetune import Finetune
from lethe.learners.gradient.generative_replay import GenerativeReplay
from lethe.learners.state import JSON
from lethe.wire import Layout

LAYOUT = Layout(height=8, width=8, classes=4)
PLAIN: dict[str, JSON] = {"backbone": "mlp", "latent": 8, "lag": 0}


def corners(count: int, seed: int, classes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return images of some of four classes, each with a bright corner of its own."""
    generator = torch.Generator().manual_seed(seed)
    y_B = torch.tensor(classes)[torch.randint(len(classes), (count,), generator=generator)]
    bright_BCHW = torch.nn.functional.one_hot(y_B, 4).view(count, 1, 2, 2)
    x_BCHW = 200 * bright_BCHW.repeat_interleave(4, 2).repeat_interleave(4, 3)
    return (x_BCHW + torch.randint(30, x_BCHW.shape, generator=generator)).to(torch.uint8), y_B


def test_a_trained_generator_draws_images_like_those_it_saw() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = Autoencoder(LAYOUT, 8)
    adam = torch.optim.Adam(generator.parameters(), lr=3e-3)
    noise = torch.Generator().manual_seed(0)
    losses = []
    for seed in range(300):
        loss = generator.loss(
            corners(32, seed, (0, 1, 2, 3))[0] / 127.5 - 1, torch.randn(32, 8, generator=noise)
        )
        adam.zero_grad()
        torch.autograd.backward(loss)
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    drawn_BCHW = generator.draw(torch.randn(200, 8, generator=noise))
    assert drawn_BCHW.shape == (200, 1, 8, 8)
    brightness_BQ = torch.nn.functional.avg_pool2d(drawn_BCHW, 4).flatten(1)
    brightest, second = brightness_BQ.topk(2).values.T
    assert ((brightest - second) > 0.7).double().mean() > 0.5  # one bright corner, the others dark
    assert set(brightness_BQ.argmax(1).tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 12), (1, 9, 15)])
def test_a_generator_draws_images_of_any_size(shape: tuple[int, int, int]) -> None:
    channels, height, width = shape
    generator = Autoencoder(Layout(channels=channels, height=height, width=width), 4)
    drawn_BCHW = generator.draw(torch.zeros(2, 4))
    assert drawn_BCHW.shape == (2, *shape)
    assert drawn_BCHW.abs().max() <= 1


def test_classes_that_no_longer_appear_are_remembered() -> None:
    def left(learner: Finetune | GenerativeReplay) -> float:
        for classes in ((0, 1), (2, 3)):
            for seed in range(100):
                learner.learn(*corners(32, seed, classes))
            learner.boundary()
        x_BCHW, y_B = corners(200, 999, (0, 1))
        return (learner.predict_proba(x_BCHW).argmax(1) == y_B).double().mean().item()

    assert left(Finetune(LearnerContext(LAYOUT, options={"backbone": "mlp"}))) < 0.2
    assert left(GenerativeReplay(LearnerContext(LAYOUT, options=PLAIN))) > 0.9


def test_its_state_contains_no_image() -> None:
    learner = GenerativeReplay(LearnerContext(LAYOUT, options=PLAIN))
    for seed in range(3):
        learner.learn(*corners(32, seed, (0, 1, 2, 3)))
    learner.boundary()
    weights = {"model", "generator", "scholar", "optimizer", "lagged"}
    assert {name.partition(".")[0] for name in learner.state().tensors} == weights
    assert not [name for name, tensor in learner.state().tensors.items() if tensor.dtype == torch.uint8]
