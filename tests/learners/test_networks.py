"""Networks of users: checked before anything starts, then refused by name or trained."""

import random
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lethe.checkpointing import safetensors_writer
from lethe.errors import InvalidSetting
from lethe.learners.base import LearnerContext
from lethe.learners.checks.contract import Check, checks_for
from lethe.learners.checks.helpers import frozen, global_generators, require_same_state, through_files
from lethe.learners.gradient import network_check
from lethe.learners.gradient.backbones import BACKBONES, build
from lethe.learners.gradient.base import GradientLearner
from lethe.learners.gradient.finetune import Finetune
from lethe.learners.gradient.generative_replay import GenerativeReplay
from lethe.learners.gradient.network_check import NetworkTraits, check_network
from lethe.learners.gradient.replay import Replay
from lethe.learners.registry import LEARNERS
from lethe.learners.state import JSON
from lethe.wire import Layout
from tests.support import networks

pytestmark = pytest.mark.usefixtures("one_thread")

LAYOUT = Layout(height=8, width=8, classes=4)
GRADIENT = [kind for kind in LEARNERS.values() if issubclass(kind, GradientLearner)]
CPU = torch.device("cpu")

Network = Callable[[Layout], nn.Module]
ONE_PASS = NetworkTraits()
TRAITS: list[tuple[Network, NetworkTraits]] = [
    (networks.plain, ONE_PASS),
    (networks.dropout, NetworkTraits(modes_differ=True, random=True)),
    (networks.batch_norm, NetworkTraits(modes_differ=True, holds_single=True, updates=True)),
    (networks.both, NetworkTraits(modes_differ=True, random=True, holds_single=True, updates=True)),
    (networks.convolutional, NetworkTraits(modes_differ=True, updates=True)),
    (networks.Shared, ONE_PASS),
    (networks.lazy, NetworkTraits(modes_differ=True, holds_single=True, updates=True)),
    (networks.spectral, NetworkTraits(modes_differ=True, updates=True)),
    (networks.Frozen, ONE_PASS),
    (networks.Unused, ONE_PASS),
    (networks.Mean, NetworkTraits(modes_differ=True, updates=True)),
    (networks.Warmed, NetworkTraits(modes_differ=True)),
]
REFUSED: list[tuple[Network, str]] = [
    (networks.double, "its parameter 1.weight is float64; what is trained is float32"),
    (networks.too_many, r"with a batch of 1, its scores have the shape \(1, 7\), not \(1, 4\)"),
    (networks.too_large, "in eval mode, with a batch of 1, it raises RuntimeError"),
    (networks.all_frozen, "no parameter that requires a gradient: there is nothing to train"),
    (networks.hooked, "it cannot be copied once it was trained"),
    (networks.NotPersistent, "training changes mean, which its state_dict lacks: a restart would lose it"),
    (networks.Attribute, "is not all in its state_dict: a restart would lose it"),
    (networks.Counting, "is not all in its state_dict: a restart would lose it"),
    (networks.Extra, "its state_dict holds _extra_state, dict: a checkpoint holds tensors"),
    (networks.Complex, "its state_dict holds waves, which is complex64: a checkpoint cannot hold it"),
    (networks.Tuple, "in eval mode, with a batch of 1, it returns tuple, not one tensor of scores"),
    (networks.TupleInTraining, "in training mode, with a batch of 1, it returns tuple"),
    (networks.Squeezing, r"with a batch of 1, its scores have the shape \(4,\), not \(1, 4\)"),
    (networks.Summing, r"its scores have the shape \(4,\)"),
    (networks.Detached, "no parameter that requires a gradient affects its scores"),
    (networks.Infinite, "its scores are not finite"),
    (networks.AnswersDouble, "its scores are float64, not float32"),
    (networks.WritesIntoImages, "it writes into the images that it is given"),
    (networks.AlwaysDropping, "in eval mode it draws random numbers"),
    (networks.LearnsFromPredictions, "in eval mode it changes mean: a prediction must change nothing"),
    (networks.RollsNumPy, "it draws random numbers of Python or NumPy"),
    (networks.RollsPython, "it draws random numbers of Python or NumPy"),
    (networks.OwnNormalisation, "in training mode, with a batch of 1, it raises ValueError: more than one"),
    (networks.NeverInitialised, "unused.weight, unused.bias of it have no shape yet"),
]


def named(case: object) -> str | None:
    return getattr(case, "__name__", None)


def options(network: Network, kind: type[GradientLearner], **more: JSON) -> dict[str, JSON]:
    few: dict[str, JSON] = {"rehearsed": 4, "replayed": 4, "capacity": 20, "latent": 4, "lag": 16}
    own = {name: value for name, value in few.items() if name in kind.Options.model_fields}
    return {"backbone": f"{networks.__name__}:{network.__name__}", **own, **more}


def learner(network: Network, kind: type[GradientLearner] = Finetune, **more: JSON) -> GradientLearner:
    return kind(LearnerContext(LAYOUT, seed=1, options=options(network, kind, **more)))


def images(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x_BCHW = torch.randint(256, (count, *LAYOUT.shape), dtype=torch.uint8, generator=generator)
    return x_BCHW, torch.randint(LAYOUT.classes, (count,), generator=generator)


@pytest.mark.parametrize(("network", "said"), REFUSED, ids=named)
def test_a_network_that_cannot_be_learned_is_refused_by_name(network: Network, said: str) -> None:
    name = f"{networks.__name__}:{network.__name__}"
    with pytest.raises(InvalidSetting, match=rf"learner\.options\.backbone: {name}: .*{said}"):
        learner(network)


def test_a_network_that_needs_another_memory_format_is_refused() -> None:
    colour = LearnerContext(
        Layout(channels=3, height=8, width=8), options=options(networks.ChannelsFirst, Finetune)
    )
    with pytest.raises(InvalidSetting, match="it raises RuntimeError: view size is not compatible"):
        Finetune(colour)


@pytest.mark.parametrize(("network", "traits"), TRAITS, ids=named)
def test_the_check_finds_the_traits_of_a_network(network: Network, traits: NetworkTraits) -> None:
    with torch.random.fork_rng(devices=[]):
        model = build(f"{networks.__name__}:{network.__name__}", LAYOUT, seed=1)
    assert check_network(model, LAYOUT, 16, CPU) == traits


@pytest.mark.parametrize("name", BACKBONES)
def test_built_in_networks_pass_the_check_and_need_one_pass(name: str) -> None:
    assert check_network(build(name, LAYOUT, seed=1), LAYOUT, 16, CPU) == ONE_PASS


@pytest.mark.parametrize("network", [network for network, _ in TRAITS], ids=named)
def test_the_check_changes_nothing(network: Network) -> None:
    before = global_generators(), random.getstate(), repr(np.random.get_state())
    drawn = build(f"{networks.__name__}:{network.__name__}", LAYOUT, seed=1).state_dict()
    tensors = learner(network).state().tensors
    assert before == (global_generators(), random.getstate(), repr(np.random.get_state()))
    assert tensors.keys() == {f"model.{name}" for name in drawn}
    assert all(torch.equal(tensors[f"model.{name}"], tensor) for name, tensor in drawn.items())


def test_a_checkpoint_holds_every_dtype_that_the_check_accepts() -> None:
    assert safetensors_writer.DTYPES.keys() == network_check._KEPT


@pytest.mark.parametrize("network", [network for network, _ in TRAITS], ids=named)
@pytest.mark.parametrize("kind", GRADIENT, ids=lambda kind: kind.name)
def test_reported_predictions_equal_those_of_predict_and_a_restart_continues(
    kind: type[GradientLearner], network: Network
) -> None:
    one, other = learner(network, kind), learner(network, kind)
    for seed, size in enumerate((16, 1, 16, 2, 1, 16)):
        x_BCHW, y_B = images(size, seed)
        p_BK = one.predict_proba(x_BCHW)
        assert bool(p_BK.isfinite().all())
        learned = one.learn(x_BCHW, y_B)
        assert torch.equal(learned.predicted_B, p_BK.argmax(1))
        assert learned.loss == pytest.approx(nn.functional.nll_loss(p_BK.log(), y_B).item(), rel=1e-3)
        if seed == 3:
            one.boundary()
            other.load_state(through_files(one.state()))
        if seed > 3:
            other.learn(x_BCHW, y_B)
    require_same_state(one, other)
    assert frozen(one.state()) != frozen(learner(network, kind).state())
    assert torch.equal(one.predictor().predict_proba(x_BCHW), one.predict_proba(x_BCHW))


def test_resnet18_of_torchvision_is_trained() -> None:
    one = learner(networks.residual)
    for seed, size in enumerate((4, 1)):
        x_BCHW, y_B = images(size, seed)
        p_BK = one.predict_proba(x_BCHW)
        assert torch.equal(one.learn(x_BCHW, y_B).predicted_B, p_BK.argmax(1))


PASSES = [(networks.plain, 1), (networks.dropout, 2), (networks.batch_norm, 2)]


@pytest.mark.parametrize(("network", "passes"), PASSES, ids=named)
def test_only_networks_whose_modes_differ_need_another_pass(network: Network, passes: int) -> None:
    one, counted = learner(network), []
    one._model.register_forward_hook(lambda *_: counted.append(1))
    one.learn(*images(16))
    assert len(counted) == passes


def test_prequential_accuracy_is_that_of_predict() -> None:
    """In training mode, dropout would lower it far below the accuracy of ``/predict``."""
    one = learner(networks.both, lr=0.01)
    reported = predicted = 0
    for seed in range(60):
        noise_BCHW, y_B = images(32, seed)
        x_BCHW = 40 * y_B[:, None, None, None].to(torch.uint8) + noise_BCHW // 4
        predicted += int((one.predict_proba(x_BCHW).argmax(1) == y_B).sum())
        reported += int((one.learn(x_BCHW, y_B).predicted_B == y_B).sum())
    assert reported == predicted > 60 * 32 * 0.7


@pytest.mark.parametrize("kind", [Finetune, Replay, GenerativeReplay], ids=lambda kind: kind.name)
def test_a_batch_of_one_is_learned_without_changing_running_statistics(kind: type[GradientLearner]) -> None:
    one = learner(networks.batch_norm, kind, **{"rehearsed": 1} if kind is Replay else {})
    one.learn(*images(16))
    before = through_files(one.state()).tensors
    one.learn(*images(1, 1))
    after = one.state().tensors
    assert not torch.equal(after["model.1.weight"], before["model.1.weight"])
    if kind is Finetune:  # the others learn more beside it, by which it is normalised
        assert torch.equal(after["model.2.running_mean"], before["model.2.running_mean"])
    assert all(module.training for module in one._model.modules())


def test_a_stream_of_single_samples_is_learned_with_batch_normalisation() -> None:
    one = learner(networks.batch_norm, lr=0.01)
    for step in range(400):
        label = step % 4
        x_BCHW = torch.full((1, *LAYOUT.shape), 60 * label, dtype=torch.uint8)
        one.learn(x_BCHW, torch.tensor([label]))
    x_BCHW = torch.arange(0, 240, 60, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, *LAYOUT.shape)
    assert one.predict_proba(x_BCHW).argmax(1).tolist() == [0, 1, 2, 3]


CONTRACT = [
    (kind, check)
    for kind in (Finetune, Replay, GenerativeReplay)
    for check in checks_for(kind)
    if check.__name__ != "check_separable_classes_are_learned"
]


@pytest.mark.parametrize(("kind", "check"), CONTRACT, ids=lambda case: getattr(case, "__name__", None))
def test_the_contract_holds_for_networks_with_dropout_and_normalisation(
    kind: type[GradientLearner], check: Check
) -> None:
    check(lambda context: kind(replace(context, options=options(networks.both, kind))))


def test_a_factory_of_the_working_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_nets.py").write_text(
        "from torch import nn\n"
        "def wide(layout):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(layout.size, layout.classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder])
    before = list(sys.path)
    model = build("my_nets:wide", Layout(), seed=0)
    assert isinstance(model, nn.Sequential)
    assert sys.path == before
