"""A checkpoint: everything a run needs to continue bit-identically, in one file.

The learner's tensors and torch's random state are safetensors, the rest is JSON metadata; nothing is
pickled. The file contains a SHA-256 of all of it. It appears whole or not at all: it is written under
another name, flushed to the disk with fsync, and renamed.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from safetensors import SafetensorError, safe_open
from torch import Tensor

from lethe.checkpointing import safetensors_writer
from lethe.errors import InvalidFile
from lethe.files.bounded_json import read_json
from lethe.files.private import open_private, reject_symlink
from lethe.learners.base import Learner
from lethe.learners.state import JSON, State
from lethe.stream.source import Position

__all__ = [
    "SCHEMA",
    "Checkpoint",
    "OnStep",
    "fsync_folder",
    "ignore_step",
    "load_learner",
    "read_checkpoint",
    "read_learner_name",
    "read_position",
    "read_samples",
    "state_digest",
    "write_checkpoint",
]

T = TypeVar("T")

SCHEMA: Final = "lethe-checkpoint/3"
OnStep = Callable[[str], None]
"""Called with the name of each step of writing once it is done."""
LEARNER: Final = "learner."
SOLVED: Final = "solved."
RANDOM: Final = "random."
UNREADABLE: Final = (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError, AttributeError)
"""Exceptions that reading a damaged or foreign file can raise; RuntimeError for one that is gone by then."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run between two batches.

    ``fingerprint`` holds the settings that change what is learned, ``random`` torch's generator states by
    device, ``history`` and ``counts`` the state of the evaluation and the run state.
    """

    fingerprint: Mapping[str, JSON]
    position: Position
    learner: State
    random: Mapping[str, Tensor]
    history: JSON
    counts: JSON
    samples: int
    """Number of samples learned so far."""
    timing: JSON = None
    """Durations of the run; None if they were not recorded."""
    drift: JSON = None
    """State of the drift detector; None for a run without one."""
    ledger: JSON = None
    """Position in the ledger, and the receipts that its file may lack; None without a ledger."""
    predictions: JSON = None
    """Where the predictions of later records begin in their topic; None for a run that writes none."""
    ranks: JSON = None
    """How the stream is shared between ranks; None for a service that learns alone."""

    @property
    def digest(self) -> str:
        """SHA-256 of the learner's state: equal digests mean bit-identical learners."""
        return state_digest(self.learner)


def state_digest(state: State) -> str:
    """Return the SHA-256, in hex, of a learner's tensors and values."""
    return safetensors_writer.digest(state.tensors, json.dumps(state.values, sort_keys=True))


def ignore_step(step: str) -> None:
    """Do nothing: the default `OnStep`."""
    del step


def write_checkpoint(
    checkpoint: Checkpoint,
    path: Path,
    at: OnStep = ignore_step,
    hashes: safetensors_writer.Hashes | None = None,
) -> int:
    """Write a checkpoint to ``path``, atomically, and return its size in bytes.

    Only this user can read the file, since it contains what the learner retains of its samples. ``hashes``
    are those of the tensors in earlier checkpoints of the same learner.

    Raises OSError. If it is raised before the rename, the previous file at ``path`` is unchanged. If
    only the fsync of the folder failed, the new checkpoint is there, but a crash of the machine can restore
    the previous one.
    """
    metadata = {
        "schema": SCHEMA,
        "fingerprint": dict(checkpoint.fingerprint),
        "position": asdict(checkpoint.position),
        "values": dict(checkpoint.learner.values),
        "history": checkpoint.history,
        "counts": checkpoint.counts,
        "samples": checkpoint.samples,
        "timing": checkpoint.timing,
        "drift": checkpoint.drift,
        "ledger": checkpoint.ledger,
        "predictions": checkpoint.predictions,
        "ranks": checkpoint.ranks,
    }
    text = json.dumps(metadata, sort_keys=True)
    tensors = {LEARNER + name: tensor for name, tensor in checkpoint.learner.tensors.items()}
    marks = {LEARNER + name: mark for name, mark in checkpoint.learner.marks.items()}
    tensors |= {SOLVED + name: tensor for name, tensor in checkpoint.learner.solved.items()}
    tensors |= {RANDOM + name: tensor for name, tensor in checkpoint.random.items()}
    partial = path.with_name(f"{path.name}.partial")
    try:
        with open_private(partial, os.O_TRUNC) as file:
            safetensors_writer.write(file, tensors, text, _sealed(text), marks, hashes)
            size = file.tell()
            file.flush()
            at("written")
            os.fsync(file.fileno())
            at("forced")
        partial.replace(path)
        at("renamed")
        fsync_folder(path.parent)
        at("folder forced")
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    return size


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and verify a checkpoint.

    Raises InvalidFile, naming the file and what is wrong with it, for a file that is damaged or not a
    checkpoint.
    """
    try:
        reject_symlink(path)
        with safe_open(path, framework="pt") as file:
            about: dict[str, str] = file.metadata() or {}
            text, sha256 = about["lethe"], about["sha256"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        if safetensors_writer.digest(tensors, _sealed(text)) != sha256:
            raise InvalidFile(f"{path} is corrupt: its SHA-256 does not match")
        return _from(read_json(text), tensors)
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def read_position(path: Path) -> Position:
    """Read the position of a checkpoint, without reading or verifying its tensors.

    Raises InvalidFile for a file that is not a checkpoint.
    """
    return _read_about(path, lambda about: _position(about["position"]))


def read_samples(path: Path) -> int:
    """Read the number of samples learned at a checkpoint, without verifying it.

    Raises InvalidFile for a file that is not a checkpoint.
    """
    return _read_about(path, lambda about: int(about["samples"]))


def read_learner_name(path: Path) -> str:
    """Read the name of the learner of a checkpoint, without verifying it.

    Raises InvalidFile for a file that is not a checkpoint.
    """
    return _read_about(path, lambda about: str(about["fingerprint"]["learner.name"]))


def _read_about(path: Path, read: Callable[[dict[str, Any]], T]) -> T:
    """Return what ``read`` extracts from the metadata of a checkpoint; raises InvalidFile."""
    try:
        reject_symlink(path)
        with safe_open(path, framework="pt") as file:
            about: dict[str, Any] = read_json((file.metadata() or {})["lethe"])
        return read(about)
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InvalidFile:
    why = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
    return InvalidFile(f"{path} is not a checkpoint that can be read: {why}")


def _position(about: dict[str, Any]) -> Position:
    newer: dict[str, Any] = {"reported": {}, "classes": (), "labels": {}, "labels_settled": {}}
    known = newer | about  # missing in older checkpoints
    offsets, ends, reported, labels, labels_settled = (
        {int(partition): of_it for partition, of_it in known[name].items()}
        for name in ("offsets", "ends", "reported", "labels", "labels_settled")
    )
    return Position(
        offsets,
        about["turn"],
        about["topic_id"],
        ends,
        reported,
        tuple(known["classes"]),
        labels,
        labels_settled,
    )


def _from(about: dict[str, Any], tensors: dict[str, Tensor]) -> Checkpoint:
    if about["schema"] != SCHEMA:
        raise ValueError(f"it has schema {about['schema']}, this version reads {SCHEMA}")
    return Checkpoint(
        fingerprint=about["fingerprint"],
        position=_position(about["position"]),
        learner=State(_named(tensors, LEARNER), about["values"], _named(tensors, SOLVED)),
        random=_named(tensors, RANDOM),
        history=about["history"],
        counts=about["counts"],
        samples=about["samples"],
        timing=about["timing"],
        drift=about["drift"],
        ledger=about["ledger"],
        predictions=about.get("predictions"),  # missing in older checkpoints, as the next one is
        ranks=about.get("ranks"),
    )


def _named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def load_learner(learner: Learner, checkpoint: Checkpoint) -> None:
    """Load the state of a checkpoint into ``learner``; raises InvalidFile if it does not fit."""
    try:
        learner.load_state(checkpoint.learner)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        raise InvalidFile(
            f"the checkpoint does not contain a state of learner {learner.name}, "
            f"{type(error).__name__}: {error}; --fresh starts over and sets it aside"
        ) from error


def _sealed(text: str) -> str:
    """Return the text that the SHA-256 of a file covers besides the tensors."""
    return json.dumps({"metadata": text})


def fsync_folder(folder: Path) -> None:
    """Flush the entries of ``folder`` to the disk, so that renames are durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
