"""Every reader rejects JSON that is nested too deeply with an error, not a traceback."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from lethe.checkpointing import safetensors_writer
from lethe.checkpointing.checkpoint import read_checkpoint, read_learner_name, read_position
from lethe.cli.flags import read_pairs
from lethe.errors import DataUnavailable, InvalidFile, InvalidSetting, LetheError
from lethe.experiments.bench.score_files import read_scores
from lethe.files.bounded_json import MAX_DEPTH, read_json
from lethe.observability.result import RunResult
from lethe.privacy.audit.ledger import read_entries
from lethe.probeset import load_probe
from lethe.settings import Settings
from lethe.stream.settings import StreamSettings
from lethe_producers.dataset_downloads import ORIGIN, origin
from lethe_producers.datasets import DATASETS
from tests.support.checkpoints import VALUES

DEEP = [1_000, 100_000]


def nested(depth: int, inside: str = "1") -> str:
    return '{"a":[' * (depth // 2) + inside + "]}" * (depth // 2)


@given(VALUES)
def test_what_is_written_is_read_back(content: object) -> None:
    assert read_json(json.dumps(content)) == content


@given(st.integers(0, 2 * MAX_DEPTH), st.randoms(use_true_random=False))
def test_the_bound_is_on_the_depth_and_on_nothing_else(depth: int, rng: random.Random) -> None:
    text = "1"
    for _ in range(depth):
        text = rng.choice((f"[{text}]", f'{{"a": {text}}}', f"[[], {text}, 2]"))
    if depth <= MAX_DEPTH:
        read_json(text)
    else:
        with pytest.raises(ValueError, match=f"nested more than {MAX_DEPTH} deep"):
            read_json(text)


def _checkpoint(path: Path, depth: int) -> None:
    about = json.dumps({"lethe": None}).replace("null", nested(depth))
    with path.open("wb") as file:
        safetensors_writer.write(file, {}, about, json.dumps({"metadata": about}))


def _probe(path: Path, depth: int) -> None:
    save_file({"y": np.zeros(1, np.int64)}, path, {"lethe": nested(depth)})


def _line(path: Path, depth: int) -> None:
    path.write_text(nested(depth) + "\n")


@pytest.mark.parametrize("depth", DEEP)
@pytest.mark.parametrize(
    ("write", "read"),
    [
        (_checkpoint, read_checkpoint),
        (_checkpoint, read_position),
        (_checkpoint, read_learner_name),
        (_probe, load_probe),
        (_line, lambda path: list(read_entries(path))),
        (_line, RunResult.read),
        (_line, lambda path: read_scores([path])),
    ],
    ids=["checkpoint", "position", "learner", "probe", "ledger", "run.json", "scores"],
)
def test_a_file_is_refused_by_name(
    write: Callable[[Path, int], None], read: Callable[[Path], object], depth: int, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    write(path, depth)
    with pytest.raises(InvalidFile, match=str(path)):
        read(path)


@pytest.mark.parametrize("depth", DEEP)
def test_a_setting_is_refused_by_name(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="security"):
        StreamSettings.model_validate({"security": nested(depth)})
    monkeypatch.setenv("LETHE_LEARNER__OPTIONS", nested(depth))
    with pytest.raises(InvalidSetting, match=r"learner\.options"):
        Settings.read({})


@pytest.mark.parametrize("depth", DEEP)
def test_an_option_that_is_nested_too_deeply_stays_text(depth: int) -> None:
    assert read_pairs("learner.options", [f"lr={nested(depth)}"]) == {"lr": nested(depth)}


@pytest.mark.parametrize("depth", DEEP)
def test_a_deeply_nested_record_of_a_data_sets_source_is_refused_by_name(depth: int, tmp_path: Path) -> None:
    dataset = DATASETS["mnist"]
    dataset.raw(tmp_path).mkdir(parents=True)
    _line(dataset.raw(tmp_path) / ORIGIN, depth)
    with pytest.raises(DataUnavailable, match=ORIGIN) as refused:
        origin(dataset, tmp_path)
    assert isinstance(refused.value, LetheError)
