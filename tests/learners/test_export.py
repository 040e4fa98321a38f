"""What is exported predicts, when it is read again, what the learner predicts."""

import json
import sys
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from lethe.errors import InvalidSetting, MissingExtra
from lethe.learners.base import Learner, LearnerContext
from lethe.learners.checks.helpers import batch
from lethe.learners.export import FORMATS, METADATA, SUFFIXES, About, export
from lethe.learners.gradient.finetune import Finetune
from lethe.learners.modules import NetworkClassifier
from lethe.learners.registry import LEARNERS, create
from lethe.wire import Layout

EXPORTED = sorted(LEARNERS)
QUICK: dict[str, Any] = {"ridge": {"waves": 60}, "slda": {"waves": 60}, "ncm": {"waves": 60}}
QUICK["experts"] = {"waves": 60}
QUICK["dp-ridge"] = {"first_block": 80, "epsilon": 100.0}
LAYOUT = Layout(height=8, width=8)
VECTORS = Layout(features=7, classes=4)
SCALES: dict[str, dict[str, Any]] = {"given": {"location": 3.0, "spread": 2.5}, "estimated": {}}
TOLERANCE = 1e-5


def trained(name: str, layout: Layout = LAYOUT, **options: Any) -> tuple[Learner, LearnerContext, Tensor]:
    """Return a learner of 200 samples, the context it was built from, and other samples."""
    context = LearnerContext(layout, seed=3, options=QUICK.get(name, {}) | options)
    learner = create(name, context)
    random = torch.Generator().manual_seed(0)
    if layout.features is None:
        x_BCHW = torch.randint(256, (264, *layout.shape), dtype=torch.uint8, generator=random)
    else:
        x_BCHW = torch.randn(264, layout.features, generator=random) * 2 + torch.arange(layout.features)
        x_BCHW[::50] *= 1e6  # far beyond every scale
    y_B = torch.randint(layout.classes, (200,), generator=random)
    for part in range(0, 200, 40):
        learner.learn(x_BCHW[part : part + 40], y_B[part : part + 40])
    return learner, context, x_BCHW[200:]


@pytest.mark.parametrize("layout", [LAYOUT, Layout(channels=3, height=35, width=18)], ids=["grey", "colour"])
@pytest.mark.parametrize("name", EXPORTED)
def test_the_module_predicts_as_the_learner(name: str, layout: Layout) -> None:
    learner, _, x_BCHW = trained(name, layout)
    with torch.no_grad():
        p_BK = learner.module()(x_BCHW)
    torch.testing.assert_close(p_BK, learner.predict_proba(x_BCHW), rtol=0, atol=TOLERANCE)


def of_vectors(name: str, scale: str) -> tuple[Learner, LearnerContext, Tensor]:
    return trained(name, VECTORS, **SCALES[scale])


PRIVATE = {"dp-finetune", "dp-ridge"}
"""They accept a scale that is given, and no other."""
OF_VECTORS = [name for name in EXPORTED if name != "generative-replay"]  # it draws images
ON_VECTORS = [
    (name, scale) for name in OF_VECTORS for scale in SCALES if scale == "given" or name not in PRIVATE
]


@pytest.mark.parametrize(("name", "scale"), ON_VECTORS)
def test_the_module_predicts_vectors_as_the_learner(name: str, scale: str) -> None:
    learner, _, x_BF = of_vectors(name, scale)
    with torch.no_grad():
        p_BK = learner.module()(x_BF)
    torch.testing.assert_close(p_BK, learner.predict_proba(x_BF), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("name", "layout"),
    [*((name, LAYOUT) for name in EXPORTED), *((name, VECTORS) for name in OF_VECTORS)],
    ids=[*EXPORTED, *(f"{name} on vectors" for name in OF_VECTORS)],
)
def test_weights_are_read_again(name: str, layout: Layout, tmp_path: Path) -> None:
    scale = SCALES["given" if layout is VECTORS and name in PRIVATE else "estimated"]
    learner, context, x_BCHW = trained(name, layout, **scale)
    about = About.of(learner, context, 200, [f"class {label}" for label in range(layout.classes)])
    export(learner, about, tmp_path / "model.safetensors", "safetensors")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        read = json.loads(file.metadata()[METADATA])
    assert (read["learner"], read["samples"], read["classes"][3]) == (name, 200, "class 3")
    assert read["features"] == layout.features
    again = create(name, LearnerContext(layout, read["seed"], options=read["options"])).module()
    weights = load_file(tmp_path / "model.safetensors")
    if isinstance(again, NetworkClassifier):
        weights = {n if n.startswith("inputs.") else f"network.{n}": t for n, t in weights.items()}
    again.load_state_dict(weights)
    with torch.no_grad():
        p_BK = again.eval()(x_BCHW)
    torch.testing.assert_close(p_BK, learner.predict_proba(x_BCHW), rtol=0, atol=TOLERANCE)


def of_torch(path: Path, x_BCHW: Tensor) -> tuple[Tensor, str]:
    extra = {METADATA: ""}
    program = torch.export.load(path, extra_files=extra)
    with torch.no_grad():
        return program.module()(x_BCHW), extra[METADATA]


def of_onnx(path: Path, x_BCHW: Tensor) -> tuple[Tensor, str]:
    session = onnxruntime.InferenceSession(path)
    (p_BK,) = session.run(None, {session.get_inputs()[0].name: x_BCHW.numpy()})
    return torch.from_numpy(p_BK), session.get_modelmeta().custom_metadata_map[METADATA]


COMPUTED = {"torch": of_torch, "onnx": of_onnx}
OFTEN = {("torch", "finetune"), ("onnx", "ridge")}


@pytest.mark.parametrize(
    ("form", "name"),
    [
        pytest.param(form, name, marks=[] if (form, name) in OFTEN else [pytest.mark.long])
        for form in COMPUTED
        for name in EXPORTED
    ],
)
def test_a_program_computes_the_same_for_batches_of_any_size(form: str, name: str, tmp_path: Path) -> None:
    learner, context, x_BCHW = trained(name)
    path = tmp_path / f"model{SUFFIXES[form]}"
    export(learner, About.of(learner, context, 200), path, form)
    for count in (1, 37):
        p_BK, about = COMPUTED[form](path, x_BCHW[:count])
        torch.testing.assert_close(p_BK, learner.predict_proba(x_BCHW[:count]), rtol=0, atol=TOLERANCE)
    read = json.loads(about)
    assert (read["schema"], read["height"], read["classes"]) == ("lethe-export/1", 8, [*"0123456789"])


@pytest.mark.parametrize("form", COMPUTED)
def test_patches_are_computed_by_a_program(form: str, tmp_path: Path) -> None:
    learner, context, x_BCHW = trained("ridge", Layout(height=12, width=9), features="wavelets+patches")
    path = tmp_path / f"model{SUFFIXES[form]}"
    export(learner, About.of(learner, context, 200), path, form)
    p_BK, _ = COMPUTED[form](path, x_BCHW)
    torch.testing.assert_close(p_BK, learner.predict_proba(x_BCHW), rtol=0, atol=TOLERANCE)


ON_VECTORS_OFTEN = {("torch", "ridge"), ("onnx", "finetune")}


@pytest.mark.parametrize(
    ("form", "name"),
    [
        pytest.param(form, name, marks=[] if (form, name) in ON_VECTORS_OFTEN else [pytest.mark.long])
        for form in COMPUTED
        for name in OF_VECTORS
    ],
)
def test_a_program_computes_the_same_for_vectors(form: str, name: str, tmp_path: Path) -> None:
    learner, context, x_BF = of_vectors(name, "given" if name in PRIVATE else "estimated")
    path = tmp_path / f"model{SUFFIXES[form]}"
    export(learner, About.of(learner, context, 200), path, form)
    p_BK, about = COMPUTED[form](path, x_BF)
    torch.testing.assert_close(p_BK, learner.predict_proba(x_BF), rtol=0, atol=TOLERANCE)
    read = json.loads(about)
    assert (read["input"], read["features"], read["channels"]) == ("vectors", 7, None)


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The options for features of a small model with random weights."""
    path = tmp_path_factory.mktemp("weights") / "body.pth"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(torchvision.models.resnet18(num_classes=7).state_dict(), path)
    return {"features": "torchvision:resnet18", "side": 32, "waves": 50, "weights": str(path)}


PHOTOGRAPHS = Layout(channels=3, height=40, width=52, classes=3)


def test_the_module_with_a_body_of_torchvision_predicts_single_images_as_the_learner(
    body: dict[str, Any],
) -> None:
    learner = create("ridge", LearnerContext(PHOTOGRAPHS, options=body))
    x_BCHW = torch.randint(256, (24, *PHOTOGRAPHS.shape), dtype=torch.uint8)
    learner.learn(x_BCHW, torch.arange(24) % 3)
    module = learner.module().eval()
    for place in range(4):
        x_1CHW = x_BCHW[place : place + 1]
        with torch.no_grad():
            p_1K = module(x_1CHW)
        torch.testing.assert_close(p_1K, learner.predict_proba(x_1CHW), rtol=0, atol=TOLERANCE)


@pytest.mark.long
def test_a_program_with_a_body_of_torchvision_computes_single_images_the_same(
    body: dict[str, Any], tmp_path: Path
) -> None:
    learner, context, x_BCHW = trained("ridge", PHOTOGRAPHS, **body)
    path = tmp_path / "model.pt2"
    export(learner, About.of(learner, context, 200), path, "torch")
    for place in range(8):
        x_1CHW = x_BCHW[place : place + 1]
        p_1K, _ = of_torch(path, x_1CHW)
        torch.testing.assert_close(p_1K, learner.predict_proba(x_1CHW), rtol=0, atol=TOLERANCE)


@pytest.mark.long
@pytest.mark.parametrize("form", COMPUTED)
@pytest.mark.parametrize("name", ["ridge", "slda", "ncm", "experts"])
def test_a_program_with_a_body_of_torchvision_computes_nearly_all_the_same(
    name: str, form: str, body: dict[str, Any], tmp_path: Path
) -> None:
    learner, context, x_BCHW = trained(name, PHOTOGRAPHS, **body)
    path = tmp_path / f"model{SUFFIXES[form]}"
    export(learner, About.of(learner, context, 200), path, form)
    p_BK, _ = COMPUTED[form](path, x_BCHW)
    far_B = (p_BK - learner.predict_proba(x_BCHW)).abs().amax(1)
    assert (far_B <= TOLERANCE).float().mean() >= 0.9
    assert far_B.max() < 0.2  # one number of the body is rounded to the next sixteenth


class Closed(Finetune):
    """A learner of somebody's own, without a module."""

    name = "closed"

    def module(self) -> nn.Module:
        return Learner.module(self)


def test_what_cannot_be_exported_is_refused_by_name(tmp_path: Path) -> None:
    context = LearnerContext(LAYOUT)
    learner = Closed(context)
    learner.learn(*batch(32, seed=1))
    with pytest.raises(InvalidSetting, match="learner closed cannot be exported: it offers no torch module"):
        export(learner, About.of(learner, context, 32), tmp_path / "x", "torch")


def test_without_onnx_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    learner, context, _ = trained("finetune")
    with pytest.raises(MissingExtra, match=r"pip install 'lethe\[onnx\]'"):
        export(learner, About.of(learner, context, 200), tmp_path / "x", "onnx")
    assert set(FORMATS) == set(SUFFIXES)
