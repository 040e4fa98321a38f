"""Snapshots of a learner's state: learning never changes them, and what has not changed is not copied."""

import io

import torch

from lethe.checkpointing.safetensors_writer import Hashes, digest, write
from lethe.learners.state import State
from lethe.runtime.snapshot import StateSnapshots


def state(marks: dict[str, object], **tensors: torch.Tensor) -> State:
    return State(tensors, {"step": 1}, {"W": torch.ones(2)}, marks)


def test_a_copy_does_not_change_when_learning_continues() -> None:
    learned = torch.zeros(3)
    copy = StateSnapshots().take(state({}, learned=learned))
    learned += 1
    assert torch.equal(copy.tensors["learned"], torch.zeros(3))
    assert copy.values == {"step": 1}
    assert torch.equal(copy.solved["W"], torch.ones(2))


def test_only_unchanged_tensors_are_not_copied_again() -> None:
    snapshots, idle, changed, busy = StateSnapshots(), object(), object(), torch.zeros(2)
    tensors = {"idle": torch.zeros(2), "changed": torch.zeros(2), "busy": busy}
    first = snapshots.take(state({"idle": idle, "changed": changed}, **tensors)).tensors
    tensors["changed"] += 1
    busy += 1
    again = snapshots.take(state({"idle": idle, "changed": object()}, **tensors)).tensors
    assert again["idle"] is first["idle"]
    assert torch.equal(again["changed"], torch.ones(2))
    assert torch.equal(again["busy"], torch.ones(2))


def test_a_mark_is_discarded_if_a_state_lacks_it() -> None:
    snapshots, mark, tensor = StateSnapshots(), object(), torch.zeros(2)
    snapshots.take(state({"a": mark}, a=tensor))
    snapshots.take(state({}, a=tensor))
    tensor += 1
    assert torch.equal(snapshots.take(state({"a": mark}, a=tensor)).tensors["a"], torch.ones(2))


def written(tensor: torch.Tensor, mark: object, hashes: Hashes) -> bytes:
    file = io.BytesIO()
    write(file, {"a": tensor}, "", "sealed", {"a": mark}, hashes)
    return file.getvalue()


def test_a_hash_that_is_known_makes_the_same_file_and_another_mark_a_new_hash() -> None:
    hashes, mark = Hashes(), object()
    assert written(torch.ones(9), mark, hashes) == written(torch.ones(9), mark, hashes)
    other = written(torch.zeros(9), object(), hashes)
    assert digest({"a": torch.zeros(9)}, "sealed").encode() in other
    assert digest({"a": torch.ones(9)}, "sealed").encode() in written(torch.ones(9), mark, hashes)
