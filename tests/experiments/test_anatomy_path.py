"""The path of a service's weights is read from its checkpoints alone."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lethe.checkpointing.checkpoint import write_checkpoint
from lethe.experiments.anatomy.checkpoints import read_path
from lethe.learners.state import State
from tests.support.checkpoints import checkpoint
from tests.support.commands import Lethe


def write(folder: Path, number: int, samples: int, state: State) -> None:
    made = replace(checkpoint(samples), learner=state, fingerprint={"learner.name": "finetune"})
    folder.mkdir(exist_ok=True)
    write_checkpoint(made, folder / f"checkpoint-{number:012d}.safetensors")


def network(first: Tensor, second: Tensor) -> State:
    tensors = {"model.0.weight": first, "model.2.weight": second, "model.2.count": torch.tensor(3)}
    return State(tensors | {"optimizer.0.weight.exp_avg": torch.full((9,), 7.0)}, {})


def test_distances_and_turns_are_those_of_the_networks_weights(tmp_path: Path, lethe: Lethe) -> None:
    state = tmp_path / "state"
    points = [(3.0, 4.0), (3.0, 6.0), (3.0, 5.0), (6.0, 5.0)]
    for number, (x, y) in enumerate(points, start=1):
        write(state, number, 640 * number, network(torch.tensor([x]), torch.tensor([[y, 0.0]])))
    path = read_path(state)
    assert path.learner == "finetune"
    assert path.samples == [640, 1280, 1920, 2560]
    assert path.steps == pytest.approx([2, 1, 3])
    assert path.from_first == pytest.approx([0, 2, 1, (9 + 1) ** 0.5])
    assert path.turns == pytest.approx([-1, 0])
    assert path.layers == {
        "0 1": pytest.approx([0, 0, 0, 1]),
        "2 1×2": pytest.approx([0, 0.5, 0.25, 0.25]),
    }
    assert path.share == pytest.approx(1), "two numbers move"
    gaps = torch.cdist(torch.tensor(path.plane).double(), torch.tensor(path.plane).double())
    assert gaps[0].tolist() == pytest.approx(path.from_first, abs=1e-6), "a plane keeps distances on it"

    out = tmp_path / "out"
    done = lethe("anatomy", "--from", str(state), "--out", str(out))
    assert done.code == 0
    assert "4 checkpoints" in done.stdout
    document = json.loads((out / "anatomy.json").read_text())
    assert document["steps"] == path.steps
    page = (out / "anatomy.html").read_text()
    assert "finetune travelled 6.00 in weight space and ended 3.16 from where it began" in page


def test_the_solution_of_a_learner_without_a_network_is_its_weights(tmp_path: Path) -> None:
    for number in (1, 2):
        solved = {"W": torch.full((2, 2), float(number)), "count": torch.tensor(9)}
        write(tmp_path, number, number, State({"A": torch.eye(5), "W": torch.zeros(2, 2)}, {}, solved))
    assert read_path(tmp_path).steps == pytest.approx([2])
    assert list(read_path(tmp_path).layers) == ["W 2×2"]


def test_a_regime_of_experts_has_weights_from_its_first_checkpoint_on(tmp_path: Path) -> None:
    write(tmp_path, 1, 64, State({"0.A": torch.eye(2), "0.W": torch.tensor([[3.0, 4.0]])}, {}))
    both = {"0.W": torch.tensor([[3.0, 4.0]]), "1.W": torch.tensor([[0.0, 2.0]])}
    write(tmp_path, 2, 128, State({}, {}, both))
    path = read_path(tmp_path)
    assert path.steps == pytest.approx([2])
    assert path.layers == {"regime 0 1×2": [0, 0], "regime 1 1×2": [0, 1]}


def test_what_has_no_path_is_rejected(tmp_path: Path, lethe: Lethe) -> None:
    empty = lethe.refuses("anatomy", "--from", str(tmp_path / "none"))
    assert "holds 0 checkpoints, and a path needs 2" in empty
    write(tmp_path, 1, 64, State({"sums": torch.zeros(3)}, {}))
    write(tmp_path, 2, 128, State({"sums": torch.zeros(3)}, {}))
    assert "neither a network nor a matrix of weights" in lethe.refuses("anatomy", "--from", str(tmp_path))
    refused = lethe.refuses("anatomy", "--from", str(tmp_path), "--learner", "ewc")
    assert "--learner and --from" in refused


def test_weights_that_never_move_have_a_path_without_turns(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write(tmp_path, number, number, network(torch.ones(2), torch.ones(2, 2)))
    path = read_path(tmp_path)
    assert (path.steps, path.turns, path.share) == ([0, 0], [None], 1.0)
