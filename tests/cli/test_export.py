"""``lethe export`` writes the model of a state folder, with the names of its classes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from lethe.checkpointing.state_folder import StateFolder
from lethe.learners.base import LearnerContext
from lethe.learners.checks.helpers import batch
from lethe.learners.registry import create
from lethe.learners.state import JSON
from lethe.probeset import ProbeSet, save_probe
from lethe.wire import Layout
from tests.support.checkpoints import checkpoint
from tests.support.commands import Lethe


@pytest.fixture
def state(tmp_path: Path) -> Path:
    layout = Layout(height=8, width=8)
    learner = create("finetune", LearnerContext(layout))
    learner.learn(*batch(32, seed=1))
    options: dict[str, JSON] = learner.Options.of({}).model_dump(mode="json")
    fields: dict[str, JSON] = layout.model_dump()
    fingerprint: dict[str, JSON] = {
        "learner.name": "finetune",
        "learner.seed": 0,
        **{f"learner.options.{name}": value for name, value in options.items()},
        **{f"sample.{name}": value for name, value in fields.items()},
    }
    folder = tmp_path / "state"
    with StateFolder(folder, keep=2) as opened:
        opened.write(replace(checkpoint(32), fingerprint=fingerprint, learner=learner.state()))
    return folder


def test_the_newest_model_is_written_with_the_names_of_its_classes(
    lethe: Lethe, state: Path, tmp_path: Path
) -> None:
    names = tuple(f"class {label}" for label in range(10))
    x, y = np.zeros((2, 1, 8, 8), np.uint8), np.arange(2)
    save_probe(ProbeSet("a", x, y, "made up", "none needed", names), tmp_path / "probes", 0)
    out, probes = tmp_path / "weights.safetensors", tmp_path / "probes"
    done = lethe("export", str(state), "--to", "safetensors", "--out", str(out), "--probes", str(probes))
    assert done.code == 0, done.stderr
    assert "finetune of 32 samples" in done.stdout
    assert "images, uint8 (N, 1, 8, 8) → probabilities, float32 (N, 10)" in done.stdout
    with safe_open(out, "pt") as file:
        about = json.loads(file.metadata()["lethe"])
        weight = file.get_tensor("0.weight")
    assert about["classes"] == list(names)
    assert (about["channels"], about["features"]) == (1, None)
    assert torch.equal(weight, read(state))


def read(folder: Path) -> torch.Tensor:
    with safe_open(next(folder.glob("*.safetensors")), "pt") as file:
        tensor: torch.Tensor = file.get_tensor("learner.model.0.weight")
    return tensor


def test_a_folder_without_checkpoints_is_refused(lethe: Lethe, tmp_path: Path) -> None:
    assert "holds no checkpoints" in lethe.refuses("export", str(tmp_path), "--to", "torch")
