"""How weights move is measured as it is, and is no part of what is learned."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from lethe.learners.base import Learner, LearnerContext
from lethe.learners.gradient.agem import AGEM
from lethe.learners.gradient.finetune import Finetune
from lethe.learners.gradient.motion import EVERY, HORIZON, MotionTracker
from lethe.learners.motion import Motion
from lethe.learners.registry import LEARNERS
from lethe.learners.state import JSON
from lethe.wire import Layout

SMALL = Layout(height=8, width=8, classes=4)


def batch(seed: int) -> tuple[Tensor, Tensor]:
    dice = torch.Generator().manual_seed(seed)
    return (
        torch.randint(0, 256, (16, *SMALL.shape), dtype=torch.uint8, generator=dice),
        torch.randint(0, 4, (16,), generator=dice),
    )


def flat(learner: Learner) -> Tensor:
    tensors = learner.state().tensors
    return torch.cat([t.reshape(-1).clone() for name, t in tensors.items() if name.startswith("model.")])


def cosine(one: Tensor, other: Tensor) -> float:
    return float(nn.functional.cosine_similarity(one.double(), other.double(), dim=0))


def learned(learner: Learner, batches: int) -> tuple[list[Tensor], dict[int, Motion]]:
    """The weights before each batch, and what was measured, by the number of the batch."""
    places: list[Tensor] = []
    motions: dict[int, Motion] = {}
    for seed in range(batches):
        places.append(flat(learner))
        before = learner.motion
        learner.learn(*batch(seed))
        if learner.motion is not None and learner.motion is not before:
            motions[seed] = learner.motion
    return places, motions


def test_ways_are_differences_of_weights_some_batches_apart() -> None:
    learner = Finetune(LearnerContext(SMALL, options={"backbone": "mlp"}))
    assert learner.motion is None
    places, motions = learned(learner, 3 * EVERY + 1)
    first, *measured = motions
    assert (first, motions[first].step) == (0, None)
    assert measured == [EVERY, 2 * EVERY, 3 * EVERY]
    ways = [after - before for before, after in pairwise(places[::EVERY])]
    steps = [motions[at].step for at in measured]
    assert steps == pytest.approx([float(way.norm()) for way in ways], rel=1e-4)
    turns = [motions[at].turn for at in measured]
    assert turns[0] is None, "there is none before the first"
    assert turns[1:] == pytest.approx([cosine(*pair) for pair in pairwise(ways)], abs=1e-4)


def test_a_gradient_is_compared_with_the_mean_of_those_measured_before() -> None:
    """With plain gradient descent the step is the gradient times the rate."""
    options: dict[str, JSON] = {"backbone": "mlp", "optimizer": "SGD", "lr": 1e-3}
    learner = Finetune(LearnerContext(SMALL, options=options))
    places, motions = learned(learner, 2 * EVERY + 2)
    gradients = [(before - after) / 1e-3 for before, after in pairwise(places)]
    lengths = [motion.gradient for motion in motions.values()]
    assert lengths == pytest.approx([float(gradients[at].norm()) for at in motions], rel=1e-2)
    first, second, third = (gradients[at] for at in (0, EVERY, 2 * EVERY))
    found = [motions[at].interference for at in (EVERY, 2 * EVERY)]
    assert found == pytest.approx([cosine(second, first), cosine(third, (first + second) / 2)], abs=1e-2)


def test_the_mean_forgets_gradients_of_long_ago() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    tracker = MotionTracker([parameter])
    for number in range(EVERY * HORIZON * 10 + 1):
        parameter.grad = torch.tensor([1.0, 0.0] if number < EVERY * HORIZON else [0.0, 1.0])
        tracker.look()
    assert tracker.latest is not None
    assert tracker.latest.interference == pytest.approx(1, abs=1e-3)
    assert (tracker.latest.step, tracker.latest.turn) == (0, None), "nothing was moved"


def test_a_parameter_without_a_gradient_counts_as_zero() -> None:
    used, unused = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(3))
    tracker = MotionTracker([used, unused])
    used.grad = torch.tensor([-2.0])
    tracker.look()
    assert tracker.latest == Motion(2.0)


def test_the_gradient_is_that_before_a_method_changes_it() -> None:
    plain, changed = (Finetune(LearnerContext(SMALL)), AGEM(LearnerContext(SMALL)))
    for learner in (plain, changed):
        learner.learn(*batch(0))
    assert plain.motion == changed.motion, "the memory is empty at the first batch"


@pytest.mark.parametrize("name", LEARNERS)
def test_motion_is_of_learners_with_a_network_and_no_part_of_their_state(name: str) -> None:
    learner = LEARNERS[name](LearnerContext(SMALL))
    learner.learn(*batch(0))
    network = any(key.startswith("model.") for key in learner.state().tensors)
    assert (learner.motion is not None) == network
    fresh = LEARNERS[name](LearnerContext(SMALL))
    fresh.load_state(learner.state())
    assert fresh.motion is None, "measured anew after a restart"
