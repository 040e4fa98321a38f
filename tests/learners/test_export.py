"""What is exported predicts, when it is read again, what the learner predicts."""

import json
import sys
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from lethe.errors import InvalidSetting, MissingExtra
from lethe.learners.base import Learner, LearnerContext
from lethe.learners.checks.helpers import batch
from lethe.learners.export import FORMATS, METADATA, SUFFIXES, About, export
from lethe.learners.modules import NetworkClassifier
from lethe.learners.registry import LEARNERS, create
from lethe.wire import Layout

NOT_EXPORTED = {"dp-finetune", "dp-ridge"}
EXPORTED = sorted(set(LEARNERS) - NOT_EXPORTED)
QUICK: dict[str, Any] = {"ridge": {"waves": 60}, "slda": {"waves": 60}, "ncm": {"waves": 60}}
QUICK["experts"] = {"waves": 60}
LAYOUT = Layout(height=8, width=8)
TOLERANCE = 1e-5


def trained(name: str, layout: Layout = LAYOUT) -> tuple[Learner, LearnerContext, Tensor]:
    """Return a learner of 200 images, the context it was built from, and other images."""
    context = LearnerContext(layout, seed=3, options=QUICK.get(name, {}))
    learner = create(name, context)
    random = torch.Generator().manual_seed(0)
    x_BCHW = torch.randint(256, (264, *layout.shape), dtype=torch.uint8, generator=random)
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


@pytest.mark.parametrize("name", EXPORTED)
def test_weights_are_read_again(name: str, tmp_path: Path) -> None:
    learner, context, x_BCHW = trained(name)
    about = About.of(learner, context, 200, [f"class {label}" for label in range(10)])
    export(learner, about, tmp_path / "model.safetensors", "safetensors")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        read = json.loads(file.metadata()[METADATA])
    assert (read["learner"], read["samples"], read["classes"][3]) == (name, 200, "class 3")
    again = create(name, LearnerContext(LAYOUT, read["seed"], options=read["options"])).module()
    weights = load_file(tmp_path / "model.safetensors")
    (again.network if isinstance(again, NetworkClassifier) else again).load_state_dict(weights)
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
    (p_BK,) = session.run(None, {"images": x_BCHW.numpy()})
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


@pytest.mark.parametrize("name", sorted(NOT_EXPORTED))
def test_what_cannot_be_exported_is_refused_by_name(name: str, tmp_path: Path) -> None:
    context = LearnerContext(LAYOUT)
    learner = create(name, context)
    learner.learn(*batch(32, seed=1))
    with pytest.raises(InvalidSetting, match=f"learner {name} cannot be exported: its features, "):
        export(learner, About.of(learner, context, 32), tmp_path / "x", "torch")


@pytest.mark.parametrize("name", ["finetune", "ridge"])
def test_learners_of_vectors_are_refused(name: str) -> None:
    learner = create(name, LearnerContext(Layout(features=5)))
    learner.learn(torch.randn(20, 5), torch.arange(20) % 10)
    with pytest.raises(InvalidSetting, match="cannot be exported yet"):
        learner.module()


def test_without_onnx_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    learner, context, _ = trained("finetune")
    with pytest.raises(MissingExtra, match=r"pip install 'lethe\[onnx\]'"):
        export(learner, About.of(learner, context, 200), tmp_path / "x", "onnx")
    assert set(FORMATS) == set(SUFFIXES)
