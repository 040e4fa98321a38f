"""Checkpoint files: written whole or not at all, and any damage is detected."""

import json
import os
import pickle
import signal
import struct
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save, save_file

from lethe.checkpointing.checkpoint import (
    SCHEMA,
    Checkpoint,
    read_checkpoint,
    read_position,
    state_digest,
    write_checkpoint,
)
from lethe.errors import InvalidFile
from lethe.learners.state import State
from lethe.stream.source import Position
from tests.support.checkpoints import checkpoint, checkpoints, same, tensors
from tests.support.forked import forked

STEPS: Final = ("written", "forced", "renamed", "folder forced")
BEFORE_RENAME: Final = ("written", "forced")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state") / "one.safetensors"


@pytest.fixture(scope="module")
def good(file: Path) -> bytes:
    """The bytes of a checkpoint that can be read."""
    path = file.with_name("good.safetensors")
    write_checkpoint(checkpoint(), path)
    return path.read_bytes()


@given(wanted=checkpoints())
def test_a_checkpoint_is_read_back_bit_for_bit(wanted: Checkpoint, file: Path) -> None:
    size = write_checkpoint(wanted, file)
    found = read_checkpoint(file)
    assert same(found, wanted)
    assert found.digest == wanted.digest
    assert size == file.stat().st_size


def test_a_strided_view_is_stored_as_its_values(file: Path) -> None:
    view = torch.arange(24.0).reshape(4, 6)[::2, 1::2].T
    write_checkpoint(checkpoint(tensor=view), file)
    assert torch.equal(read_checkpoint(file).learner.tensors["weights"], view)


def test_nan_in_the_history_is_read_back(file: Path) -> None:
    write_checkpoint(replace(checkpoint(), history=[float("nan"), float("-inf")]), file)
    assert str(read_checkpoint(file).history) == "[nan, -inf]"


@given(tensor=tensors(), bit=st.integers(0))
def test_the_digest_depends_on_every_bit(tensor: torch.Tensor, bit: int) -> None:
    before = state_digest(State({"a": tensor}, {}))
    if tensor.numel() == 0:
        assert state_digest(State({"a": tensor.reshape(*tensor.shape, 1)}, {})) != before
        return
    content = bytearray(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    bit %= 8 * len(content)
    content[bit // 8] ^= 1 << bit % 8
    other = torch.frombuffer(content, dtype=tensor.dtype).reshape(tensor.shape)
    assert state_digest(State({"a": other}, {})) != before


def test_the_digest_depends_on_names_shapes_dtypes_and_values() -> None:
    zeros = torch.zeros(4)
    states = [
        State({"a": zeros}, {}),
        State({"b": zeros}, {}),
        State({"a": zeros.reshape(2, 2)}, {}),
        State({"a": zeros.view(torch.int32)}, {}),
        State({"a": zeros}, {"step": 1}),
        State({"a": zeros, "b": zeros[:0]}, {}),
    ]
    assert len({state_digest(state) for state in states}) == len(states)


def test_the_digest_does_not_depend_on_the_order_of_names() -> None:
    a, b = torch.zeros(2), torch.ones(2)
    assert state_digest(State({"a": a, "b": b}, {})) == state_digest(State({"b": b, "a": a}, {}))


@given(data=st.data())
def test_a_truncated_file_is_refused(data: st.DataObject, file: Path, good: bytes) -> None:
    file.write_bytes(good[: data.draw(st.integers(0, len(good) - 1))])
    with pytest.raises(InvalidFile, match=r"one\.safetensors"):
        read_checkpoint(file)


def test_a_flipped_bit_is_detected_anywhere(file: Path, good: bytes) -> None:
    for bit in range(0, 8 * len(good), 7):  # every byte, with another of its bits each time
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        with pytest.raises(InvalidFile, match=r"one\.safetensors"):
            read_checkpoint(file)


@given(tail=st.binary(min_size=1, max_size=32))
def test_bytes_after_the_end_are_refused(tail: bytes, file: Path, good: bytes) -> None:
    file.write_bytes(good + tail)
    with pytest.raises(InvalidFile):
        read_checkpoint(file)


@given(content=st.binary(max_size=256))
def test_any_other_bytes_are_refused(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    with pytest.raises(InvalidFile):
        read_checkpoint(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=r"none\.safetensors"):
        read_checkpoint(tmp_path / "none.safetensors")


def test_the_error_names_an_unknown_schema_and_the_supported_one(file: Path, good: bytes) -> None:
    file.write_bytes(good)
    with safe_open(file, framework="pt") as opened:
        about = opened.metadata()
        held = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
    text = about["lethe"].replace(SCHEMA, "lethe-checkpoint/99")
    sha256 = state_digest(State(held, {"metadata": text}))
    file.write_bytes(save(held, {"lethe": text, "sha256": sha256}))
    with pytest.raises(InvalidFile, match=f"lethe-checkpoint/99.*{SCHEMA}"):
        read_checkpoint(file)


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mkdir, (str(self._path),)


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_pickle_is_refused_without_being_run(kind: str, tmp_path: Path) -> None:
    path, trap = tmp_path / "trap.safetensors", Trap(tmp_path / "sprung")
    if kind == "torch":
        torch.save(trap, path)
    else:
        path.write_bytes(pickle.dumps(trap))
    with pytest.raises(InvalidFile):
        read_checkpoint(path)
    assert not (tmp_path / "sprung").exists()


def test_everything_but_the_tensors_is_json(good: bytes) -> None:
    (length,) = struct.unpack("<Q", good[:8])
    about = json.loads(json.loads(good[8 : 8 + length])["__metadata__"]["lethe"])
    assert about["schema"] == SCHEMA
    assert about["samples"] == 64
    assert about["position"] == {
        "offsets": {"0": 64},
        "turn": 0,
        "topic_id": "topic",
        "ends": {},
        "reported": {},
        "classes": [],
        "labels": {},
        "labels_settled": {},
    }


def test_the_steps_are_reported_in_order(tmp_path: Path) -> None:
    steps: list[str] = []
    write_checkpoint(checkpoint(), tmp_path / "one", steps.append)
    assert tuple(steps) == STEPS


@pytest.mark.parametrize("step", STEPS)
def test_an_error_at_any_step_leaves_a_whole_file_and_no_temporary_one(step: str, tmp_path: Path) -> None:
    path = tmp_path / "one"
    write_checkpoint(checkpoint(64), path)

    def fail(at: str) -> None:
        if at == step:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(checkpoint(128), path, fail)
    assert read_checkpoint(path).samples == (64 if step in BEFORE_RENAME else 128)
    assert list(tmp_path.iterdir()) == [path]


def die(path: Path, step: str) -> None:
    """Write a checkpoint and be killed at one step of it."""

    def at(now: str) -> None:
        if now == step:
            os.kill(os.getpid(), signal.SIGKILL)

    write_checkpoint(checkpoint(128), path, at)


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_leaves_a_whole_file(step: str, tmp_path: Path) -> None:
    path = tmp_path / "one"
    write_checkpoint(checkpoint(64), path)
    context = forked()
    victim = context.Process(target=die, args=(path, step))
    victim.start()
    victim.join()
    assert victim.exitcode == -signal.SIGKILL
    assert read_checkpoint(path).samples == (64 if step in BEFORE_RENAME else 128)


@pytest.mark.parametrize("name", ["offsets", "ends", "turn", "topic_id"])
def test_a_position_without_a_field_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=f"lacks '{name}'"):
        read_position(without(name, tmp_path))


def test_a_position_of_an_older_version_has_no_dead_letters_ahead(tmp_path: Path) -> None:
    assert read_position(without("reported", tmp_path)).reported == {}


def test_a_position_with_late_labels_is_read_as_it_was_written(tmp_path: Path) -> None:
    position = Position({0: 1}, labels={0: 7, 1: 2}, labels_settled={1: "eJxjYAAAAAIAAQ=="})
    path = tmp_path / "late.safetensors"
    write_checkpoint(replace(checkpoint(), position=position), path)
    read = read_position(path)
    assert (read.labels, read.labels_settled) == (position.labels, position.labels_settled)


def without(name: str, folder: Path) -> Path:
    """Write a checkpoint whose position lacks a field; its SHA-256 is not checked here."""
    position = {"offsets": {"0": 1}, "turn": 0, "topic_id": None, "ends": {}, "reported": {"0": 9}}
    about = {"position": {field: value for field, value in position.items() if field != name}}
    path = folder / "checkpoint-000000000001.safetensors"
    save_file({"x": torch.zeros(1)}, path, {"lethe": json.dumps(about)})
    return path
