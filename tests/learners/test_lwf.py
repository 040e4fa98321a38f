"""Learning without forgetting: the loss against its formula, and the choice of the teacher."""

import torch
from torch import Tensor, nn

from lethe.learners.base import LearnerContext
from lethe.learners.gradient.backbones import build
from lethe.learners.gradient.finetune import Finetune
from lethe.learners.gradient.lwf import LwF
from lethe.learners.state import JSON
from lethe.wire import Layout

LAYOUT = Layout(height=8, width=8, classes=4)
PLAIN: dict[str, JSON] = {"backbone": "mlp", "optimizer": "SGD", "lr": 0.1}


def images(seed: int, size: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x_BCHW = torch.randint(256, (size, *LAYOUT.shape), dtype=torch.uint8, generator=generator)
    return x_BCHW, torch.randint(LAYOUT.classes, (size,), generator=generator)


def lwf(**options: JSON) -> LwF:
    return LwF(LearnerContext(LAYOUT, seed=1, options=PLAIN | options))


def weights(learner: LwF | Finetune, kind: str = "model") -> dict[str, Tensor]:
    tensors = learner.state().tensors
    return {n.removeprefix(f"{kind}."): t.clone() for n, t in tensors.items() if n.startswith(f"{kind}.")}


def test_without_a_boundary_it_is_finetune() -> None:
    one, other = lwf(), Finetune(LearnerContext(LAYOUT, seed=1, options=PLAIN))
    for seed in range(5):
        one.learn(*images(seed))
        other.learn(*images(seed))
    assert all(torch.equal(tensor, weights(other)[name]) for name, tensor in weights(one).items())


def test_its_step_follows_cross_entropy_and_distillation() -> None:
    learner = lwf(lag=0, strength=0.7, temperature=3.0)
    for seed in range(5):
        learner.learn(*images(seed))
    learner.boundary()
    learner.learn(*images(5))  # so that teacher and pupil differ
    student, teacher = build("mlp", LAYOUT, 0), build("mlp", LAYOUT, 0)
    student.load_state_dict(weights(learner))
    teacher.load_state_dict(weights(learner, "teacher"))
    x_BCHW, y_B = images(6)
    x = x_BCHW / 127.5 - 1
    taught_BK = (teacher(x) / 3).softmax(1).detach()
    apart = (taught_BK * (taught_BK.log() - (student(x) / 3).log_softmax(1))).sum(1).mean()
    torch.autograd.backward(nn.functional.cross_entropy(student(x), y_B) + 0.7 * 9 * apart)
    learner.learn(x_BCHW, y_B)
    for name, parameter in student.named_parameters():
        assert parameter.grad is not None
        expected = parameter.detach() - 0.1 * parameter.grad
        torch.testing.assert_close(weights(learner)[name], expected, rtol=1e-4, atol=1e-6)


def test_after_a_late_boundary_the_teacher_is_the_network_from_before_it() -> None:
    learner, seen = lwf(lag=64), {}
    for seed in range(20):
        learner.learn(*images(seed))
        seen[16 * (seed + 1)] = weights(learner)
    learner.boundary()  # at 320: copies were taken at 16, 80, …, 208, 272
    assert all(torch.equal(tensor, seen[208][name]) for name, tensor in weights(learner, "teacher").items())
    teacher = weights(learner, "teacher")
    assert all(torch.equal(tensor, teacher[name]) for name, tensor in weights(learner).items())
    learner.learn(*images(20))
    assert all(torch.equal(tensor, teacher[name]) for name, tensor in weights(learner, "teacher").items())
