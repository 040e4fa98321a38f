"""The command lethe: its version, its lists and its errors."""

import json
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

from lethe.learners.registry import LEARNERS
from lethe.probeset import ProbeSet, save_probe
from tests.support.commands import Lethe


def test_the_version_is_that_of_the_package(lethe: Lethe) -> None:
    assert lethe("--version").stdout == f"lethe {version('lethe')}\n"


def test_the_learners_are_listed_with_what_they_retain(lethe: Lethe) -> None:
    shown = lethe("learners").stdout
    for kind in LEARNERS.values():
        (row,) = [line for line in shown.splitlines() if line.startswith(f"│ {kind.name} ")]
        assert kind.retains.value in row
        assert kind.summary in row


@pytest.mark.parametrize("name", LEARNERS)
def test_the_options_of_a_learner_are_shown_with_what_they_do(lethe: Lethe, name: str) -> None:
    shown = lethe("learners", name).stdout
    for option, field in LEARNERS[name].Options.model_fields.items():
        (row,) = [line for line in shown.splitlines() if line.startswith(f"│ {option} ")]
        assert json.dumps(field.get_default(call_default_factory=True)) in row
        assert field.description, f"{option} has no docstring"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("ncm", "unlearns: yes"),
        ("finetune", "unlearns: no, its weights are trained by gradient descent"),
        ("finetune", "expires: no, it stores no samples"),
        ("replay", "expires: yes"),
        ("dp-ridge", "differentially private: yes"),
    ],
)
def test_a_learner_is_shown_with_its_capabilities(lethe: Lethe, name: str, shown: str) -> None:
    assert shown in lethe("learners", name).stdout


def test_a_wrong_option_is_refused_by_name(lethe: Lethe) -> None:
    said = lethe.refuses("run", "--option", "lr=0", "--option", "depth=3")
    assert "learner.options.lr: Input should be greater than 0" in said
    assert "learner.options.depth: no such option, there are location, spread, backbone, " in said


def test_a_learner_that_does_not_exist_is_refused_with_those_that_do(lethe: Lethe) -> None:
    said = lethe.refuses("run", "--learner", "styx")
    assert said == f"lethe: learner 'styx' does not exist: there are {', '.join(LEARNERS)}"


def test_a_learner_that_cannot_take_the_images_is_refused(lethe: Lethe) -> None:
    said = lethe.refuses("run", "--learner", "finetune", "--sample-height", "4")
    assert said.startswith("lethe: learner finetune: images of 4×28")


def test_a_folder_without_probes_is_refused_with_what_writes_some(lethe: Lethe, tmp_path: Path) -> None:
    said = lethe.refuses("run", "--probes", str(tmp_path))
    assert f"{tmp_path} holds no probe files" in said
    assert "lethe-replay probes" in said


def test_probes_that_do_not_fit_the_stream_are_refused_by_name(lethe: Lethe, tmp_path: Path) -> None:
    y_N = np.arange(3)
    save_probe(ProbeSet("shades", np.zeros((3, 1, 8, 8), np.uint8), y_N, "made up", "none"), tmp_path, 0)
    run = ("run", "--probes", str(tmp_path))
    assert "evaluation.probes: shades has images of 1×8×8 and" in lethe.refuses(*run)
    said = lethe.refuses(*run, "--features", "64")
    assert "shades has images of 1×8×8 and labels up to 2, the stream has vectors of 64 and" in said


def test_vectors_and_images_exclude_each_other_by_name(lethe: Lethe) -> None:
    said = lethe.refuses("run", "--features", "8", "--sample-height", "8", "--sample-channels", "3")
    assert "sample.features is for vectors, sample.channels and sample.height for images" in said
    assert "sample.features: --features or LETHE_SAMPLE__FEATURES" in said
    assert "sample.formats png: vectors" in lethe.refuses("run", "--features", "8", "--formats", "png")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["generative-replay"], "learner generative-replay: its generator draws images"),
        (["finetune", "--option", "backbone=small-cnn"], "learner.options.backbone is mlp"),
        (["dp-ridge"], "vectors need learner.options.location and spread"),
        (["ridge", "--option", "spread=1"], "location and spread are given together"),
        (["ridge", "--option", "location=0", "--option", "spread=0"], "every spread is above 0"),
        (["ridge", "--option", "location=[0,0]", "--option", "spread=1"], "2 numbers, but vectors"),
    ],
)
def test_a_learner_that_cannot_take_the_vectors_is_refused_with_what_to_do(
    lethe: Lethe, arguments: list[str], reason: str
) -> None:
    assert reason in lethe.refuses("run", "--features", "8", "--learner", *arguments)


def test_a_scale_of_vectors_is_refused_for_images(lethe: Lethe) -> None:
    said = lethe.refuses("run", "--option", "location=0", "--option", "spread=1")
    assert "location and spread are for vectors" in said


def test_a_taken_port_is_refused_by_the_names_of_its_settings(lethe: Lethe) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = lethe.refuses("run", "--port", str(port))
    assert said.startswith(f"lethe: serve.host 127.0.0.1, serve.port {port}: Address already in use (")
    assert "serve.port: --port or LETHE_SERVE__PORT" in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_this_machine_lacks_is_refused(lethe: Lethe) -> None:
    said = lethe.refuses("run", "--device", "cuda")
    assert said.startswith("lethe: learner.device cuda: ")


def test_a_bad_value_is_refused_by_name(lethe: Lethe) -> None:
    assert "batch.size" in lethe.refuses("run", "--batch-size", "0")


def test_an_unknown_variable_is_refused_by_name(lethe: Lethe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETHE_STREAM__TOPIK", "styx")
    assert "LETHE_STREAM__TOPIK" in lethe.refuses("run")


def test_a_rank_beyond_the_world_is_refused(lethe: Lethe) -> None:
    said = lethe.refuses("run", "--stream-rank", "2", "--stream-world", "2")
    assert "stream.rank 2 must be below stream.world 2" in said


@pytest.mark.parametrize("arguments", [["run", "--batch-size", "many"], ["run", "--styx"], ["styx"]])
def test_an_unknown_command_is_explained_without_a_traceback(lethe: Lethe, arguments: list[str]) -> None:
    done = lethe(*arguments)
    assert done.code == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert any(word in done.stderr for word in arguments[1:] or arguments)


def test_a_demo_of_a_learner_or_scenario_that_does_not_exist_is_refused(lethe: Lethe, tmp_path: Path) -> None:
    assert "styx" in lethe.refuses("demo", "--scenario", "styx", "--report", str(tmp_path))
    said = lethe.refuses("demo", "--learner", "ridge", "--learner", "ridge", "--report", str(tmp_path))
    assert said == "lethe: --learner: each learner can be given once, not ridge, ridge"


def test_help_does_not_wait_for_torch() -> None:
    script = (
        "import sys; from lethe.cli.main import app\n"
        "app(['run', '--help'], standalone_mode=False)\n"
        "sys.exit(','.join({'torch', 'plotly', 'uvicorn'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stderr.strip() == ""
    assert done.returncode == 0


def test_a_probe_without_images_is_refused_by_name(lethe: Lethe, tmp_path: Path) -> None:
    empty = ProbeSet("shades", np.zeros((0, 1, 28, 28), np.uint8), np.zeros(0, np.int64), "made up", "none")
    save_probe(empty, tmp_path, 0)
    assert "shades" in lethe.refuses("run", "--probes", str(tmp_path))
