"""What the gradient learners share: any network, any optimizer of torch, and their state."""

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from lethe.errors import DivergedLoss, InvalidSetting
from lethe.learners.base import LearnerContext
from lethe.learners.gradient.base import GradientLearner
from lethe.learners.gradient.ewc import EWC
from lethe.learners.gradient.finetune import Finetune
from lethe.learners.gradient.lwf import LwF
from lethe.learners.gradient.mas import MAS
from lethe.learners.gradient.optimizers import optimizer_kind
from lethe.learners.gradient.si import SI
from lethe.learners.registry import LEARNERS
from lethe.learners.state import JSON, State
from lethe.wire import Layout

LAYOUT = Layout(height=8, width=8, classes=4)
UNFIT = ("Optimizer", "LBFGS", "SparseAdam")
OPTIMIZERS = [
    name
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and name not in UNFIT
]

GRADIENT = [kind for kind in LEARNERS.values() if issubclass(kind, GradientLearner)]


def images(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x_BCHW = torch.randint(256, (count, *LAYOUT.shape), dtype=torch.uint8, generator=generator)
    return x_BCHW, torch.randint(LAYOUT.classes, (count,), generator=generator)


def finetune(**options: JSON) -> Finetune:
    return Finetune(LearnerContext(LAYOUT, seed=1, options=options))


def same(one: State, other: State) -> bool:
    return one.tensors.keys() == other.tensors.keys() and all(
        torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items()
    )


def matrices(layout: Layout) -> nn.Module:
    """Return a network that torch.optim.Muon can train: it takes matrices only."""
    return nn.Sequential(nn.Flatten(), nn.Linear(layout.height * layout.width, layout.classes, bias=False))


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("kind", GRADIENT, ids=lambda kind: kind.name)
def test_any_optimizer_of_torch_learns_and_resumes_from_its_state(
    kind: type[GradientLearner], name: str
) -> None:
    options: dict[str, JSON] = {"optimizer": name, "backbone": "mlp"}
    if name == "Muon":
        options["backbone"] = f"{__name__}:matrices"
    if "lag" in kind.Options.model_fields:
        options["lag"] = 16
    one, other = (kind(LearnerContext(LAYOUT, seed=1, options=options)) for _ in range(2))
    before = load(save(dict(one.state().tensors)))
    for seed in range(3):
        one.learn(*images(16, seed))
    one.boundary()
    one.learn(*images(16, 3))
    assert not same(State(before, {}), one.state())
    other.load_state(State(load(save(dict(one.state().tensors))), one.state().values))
    for seed in range(4, 7):
        one.learn(*images(16, seed))
        other.learn(*images(16, seed))
    assert same(one.state(), other.state())


def test_the_optimizers_other_arguments_are_passed_on() -> None:
    plain, heavy = finetune(optimizer="SGD"), finetune(optimizer="SGD", optimizer_options={"momentum": 0.9})
    for learner in (plain, heavy):
        learner.learn(*images(8))
    assert not any("momentum_buffer" in name for name in plain.state().tensors)
    assert any("momentum_buffer" in name for name in heavy.state().tensors)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"optimizer": "Adamm"}, r"learner\.options\.optimizer: torch\.optim has no optimizer 'Adamm'"),
        ({"optimizer": "lr_scheduler"}, r"torch\.optim has no optimizer 'lr_scheduler'"),
        ({"optimizer": "LBFGS"}, r"learner\.options\.optimizer: torch\.optim\.LBFGS needs the loss"),
        ({"optimizer_options": {"momentum": 0.9}}, r"learner\.options: torch\.optim\.Adam with .*momentum"),
        ({"optimizer_options": {"betas": [0.9, 2.0]}}, r"learner\.options: torch\.optim\.Adam with .*beta"),
        ({"lr": 0}, r"learner\.options\.lr: Input should be greater than 0"),
        ({"backbone": "resnet"}, r"learner\.options\.backbone: 'resnet' is none of auto, small-cnn, mlp"),
        (
            {"backbone": "nowhere:net"},
            r"learner\.options\.backbone: nowhere:net: ModuleNotFoundError.*it is neither in",
        ),
        ({"backbone": f"{__name__}:LAYOUT"}, r"learner\.options\.backbone: .*TypeError"),
        ({"backbone": f"{__name__}:nothing"}, r"learner\.options\.backbone: .*NoneType, no nn\.Module"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_by_name(options: dict[str, JSON], said: str) -> None:
    with pytest.raises(InvalidSetting, match=said):
        finetune(**options)


@pytest.mark.parametrize("name", UNFIT)
def test_an_optimizer_that_cannot_train_a_learner_says_why(name: str) -> None:
    with pytest.raises(ValueError, match=rf"torch\.optim\.{name} "):
        optimizer_kind(name)


def nothing(layout: Layout) -> None:
    """Return no network."""


def normalised(layout: Layout) -> nn.Module:
    """Return a user's network with batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(layout.channels, 4, 3),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Linear(4 * (layout.height - 2) * (layout.width - 2), layout.classes),
    )


def test_a_users_network_is_initialised_from_the_seed() -> None:
    one, other = (finetune(backbone=f"{__name__}:normalised") for _ in range(2))
    assert same(one.state(), other.state())
    assert one.state().tensors["model.0.weight"].shape == (4, 1, 3, 3)


def test_running_statistics_are_part_of_the_state() -> None:
    one, other = (finetune(backbone=f"{__name__}:normalised") for _ in range(2))
    one.learn(*images(16))
    assert not torch.equal(
        one.state().tensors["model.1.running_mean"], other.state().tensors["model.1.running_mean"]
    )
    other.load_state(one.state())
    x_BCHW, _ = images(5, seed=9)
    assert torch.equal(one.predict_proba(x_BCHW), other.predict_proba(x_BCHW))
    torch.testing.assert_close(one.predict_proba(x_BCHW)[:1], one.predict_proba(x_BCHW[:1]))


@pytest.mark.parametrize("kind", [EWC, SI, MAS, LwF])
def test_running_statistics_are_reset_with_the_weights(kind: type[GradientLearner]) -> None:
    options: dict[str, JSON] = {"backbone": f"{__name__}:normalised", "lag": 16}
    learner = kind(LearnerContext(LAYOUT, seed=1, options=options))
    seen = []
    for seed in range(4):
        learner.learn(*images(16, seed))
        seen.append({name: t.clone() for name, t in learner.state().tensors.items() if ".running_" in name})
    learner.boundary()  # uses the older of the last two copies; one was taken after each batch
    after = learner.state().tensors
    assert seen[2]
    assert all(
        torch.equal(after[name], tensor) for name, tensor in seen[2].items() if name.startswith("model.")
    )
    assert not torch.equal(after["model.1.running_mean"], seen[3]["model.1.running_mean"])


def test_a_rejected_batch_does_not_change_running_statistics() -> None:
    learner = finetune(backbone=f"{__name__}:normalised")
    weights = dict(learner.state().tensors)
    learner.load_state(State(weights | {"model.3.bias": torch.full((4,), torch.nan)}, learner.state().values))
    with pytest.raises(DivergedLoss):
        learner.learn(*images(16))
    assert torch.equal(learner.state().tensors["model.1.running_mean"], torch.zeros(4))


class PartlyTrained(nn.Module):
    """A user's network with a frozen layer, an unused layer and a normalisation in eval mode."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.frozen = nn.Linear(layout.size, 8).requires_grad_(requires_grad=False)
        self.still = nn.BatchNorm1d(8).eval()
        self.unused = nn.Linear(8, 8)
        self.last = nn.Linear(8, layout.classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        scores_BK: Tensor = self.last(self.still(self.frozen(x_BCHW.flatten(1))))
        return scores_BK


@pytest.mark.parametrize("kind", GRADIENT, ids=lambda kind: kind.name)
def test_a_network_may_be_trained_in_part(kind: type[GradientLearner]) -> None:
    context = LearnerContext(LAYOUT, seed=1, options={"backbone": f"{__name__}:PartlyTrained"})
    watched, alone = (kind(context) for _ in range(2))
    for seed in range(4):
        for learner in (watched, alone):
            learner.learn(*images(64, seed))
            learner.boundary()
        watched.predict_proba(images(5)[0])
    assert same(watched.state(), alone.state())
    first = kind(context).state().tensors
    last = watched.state().tensors
    for still in ("frozen.weight", "still.running_mean", "unused.weight"):
        assert torch.equal(last[f"model.{still}"], first[f"model.{still}"])
    assert not torch.equal(last["model.last.weight"], first["model.last.weight"])
