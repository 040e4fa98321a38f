"""Learners on the frozen body of a torchvision model, whose weights come from a file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from lethe.errors import InvalidSetting
from lethe.learners.base import Learner, LearnerContext
from lethe.learners.capabilities import Merges, Unlearns
from lethe.learners.registry import create
from lethe.wire import Layout

LAYOUT = Layout(channels=3, height=72, width=90, classes=3)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights: features of any network separate bright images from dark ones."""
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(torchvision.models.resnet18(num_classes=7).state_dict(), path)
    return path


def built(file: Path, /, name: str = "ridge", layout: Layout = LAYOUT, **options: Any) -> Learner:
    chosen: dict[str, Any] = {"features": "torchvision:resnet18", "side": 32, "waves": 50}
    return create(name, LearnerContext(layout, options={**chosen, "weights": str(file), **options}))


def pictures(count: int, seed: int = 0, layout: Layout = LAYOUT) -> tuple[torch.Tensor, torch.Tensor]:
    """Return noise about three colours."""
    random = torch.Generator().manual_seed(seed)
    y_B = torch.arange(count) % 3
    x_BCHW = torch.randint(60, (count, *layout.shape), dtype=torch.uint8, generator=random)
    x_BCHW[torch.arange(count), y_B % layout.channels] += (60 * (1 + y_B)).to(torch.uint8)[:, None, None]
    return x_BCHW, y_B


@pytest.mark.parametrize("name", ["ridge", "slda", "ncm", "experts"])
def test_it_learns_large_pictures(name: str, weights: Path) -> None:
    learner = built(weights, name)
    learner.learn(*pictures(60))
    x_BCHW, y_B = pictures(30, seed=1)
    assert (learner.predict_proba(x_BCHW).argmax(1) == y_B).float().mean() > 0.9


def test_features_are_the_same_in_any_batch_and_with_any_number_of_threads(weights: Path) -> None:
    learner: Any = built(weights)
    x_BCHW, _ = pictures(9)
    together, threads = learner.features(x_BCHW), torch.get_num_threads()
    assert together.dtype == torch.int8
    assert together.float().std() > 1
    try:
        torch.set_num_threads(3)
        apart = torch.cat([learner.features(x_BCHW[:4]), learner.features(x_BCHW[4:])])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(apart, together)


def test_sums_are_exact_so_learners_merge_and_forget(weights: Path) -> None:
    whole, first, second = built(weights), built(weights), built(weights)
    x_BCHW, y_B = pictures(40)
    whole.learn(x_BCHW, y_B)
    first.learn(x_BCHW[:25], y_B[:25])
    second.learn(x_BCHW[25:], y_B[25:])
    assert isinstance(first, Merges)
    assert isinstance(whole, Merges)
    assert isinstance(whole, Unlearns)
    first.merge(second.state())
    assert all(torch.equal(tensor, whole.sums()[name]) for name, tensor in first.sums().items())
    whole.unlearn(x_BCHW[25:], y_B[25:])
    first.subtract(second.state())
    assert all(torch.equal(tensor, whole.sums()[name]) for name, tensor in first.sums().items())


def test_grey_pictures_and_safetensors_are_taken(weights: Path, tmp_path: Path) -> None:
    save_file(torch.load(weights, weights_only=True), tmp_path / "w.safetensors")
    layout = Layout(height=40, width=40, classes=3)
    x_BCHW, y_B = pictures(9, layout=layout)
    learner: Any = built(tmp_path / "w.safetensors", layout=layout)
    learner.learn(x_BCHW, y_B)
    of_pth: Any = built(weights, layout=layout)
    assert torch.equal(learner.features(x_BCHW), of_pth.features(x_BCHW))


def test_a_state_is_refused_with_other_weights(weights: Path, tmp_path: Path) -> None:
    one = built(weights)
    one.learn(*pictures(10))
    built(weights).load_state(one.state())
    changed = torch.load(weights, weights_only=True)
    changed["conv1.weight"] *= 1.01
    torch.save(changed, tmp_path / "other.pth")
    other = built(tmp_path / "other.pth")
    with pytest.raises(InvalidSetting, match="not the one that the checkpoint was learned with"):
        other.load_state(one.state())
    assert isinstance(other, Merges)
    with pytest.raises(InvalidSetting, match="other weights"):
        other.merge(one.state())


def missing_layer(weights: Path, path: Path) -> None:
    kept = torch.load(weights, weights_only=True)
    del kept["conv1.weight"]
    torch.save(kept, path)


def whole_model(_: Path, path: Path) -> None:
    torch.save(torchvision.models.squeezenet1_0(), path)


def not_finite(weights: Path, path: Path) -> None:
    kept = torch.load(weights, weights_only=True)
    kept["bn1.bias"][0] = torch.nan
    torch.save(kept, path)


def text(_: Path, path: Path) -> None:
    path.write_text("weights")


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (missing_layer, r"not finite weights of resnet18: .* are conv1\.weight"),
        (whole_model, "is not a file of tensors alone"),
        (not_finite, r"are bn1\.bias"),
        (text, "w.pth"),
    ],
)
def test_a_file_without_the_models_weights_is_refused(
    write: Callable[[Path, Path], None], said: str, weights: Path, tmp_path: Path
) -> None:
    write(weights, tmp_path / "w.pth")
    with pytest.raises(InvalidSetting, match=said):
        built(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("options", "layout", "said"),
    [
        ({"features": "torchvision:resnet19"}, LAYOUT, "torchvision has no model 'resnet19'"),
        ({"features": "torchvision:squeezenet1_0"}, LAYOUT, "no linear layer to leave out"),
        ({"features": "fourier"}, LAYOUT, r"'fourier' is none of wavelets, wavelets\+patches, "),
        (
            {"features": "wavelets+patches", "weights": None, "waves": 0},
            LAYOUT,
            "waves: .* needs random waves",
        ),
        ({"features": "wavelets"}, LAYOUT, "weights is for features=torchvision:MODEL"),
        ({"weights": None}, LAYOUT, "torchvision:resnet18 needs a file of its weights"),
        ({}, Layout(features=4), "is for images, samples are vectors"),
        (
            {"features": "wavelets+patches", "weights": None},
            Layout(features=4),
            r"wavelets\+patches is for images, samples are vectors",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(options: Any, layout: Layout, said: str, weights: Path) -> None:
    with pytest.raises(InvalidSetting, match=said):
        built(weights, layout=layout, **options)
