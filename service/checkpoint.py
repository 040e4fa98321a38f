"""A checkpoint: everything a run needs to go on as if it had never stopped, in one file.

safetensors hold the learner's tensors and torch's random state, JSON metadata the rest; no
pickle anywhere. A SHA-256 over all of it stands inside. A file appears whole or not at all:
it is written under another name, forced to the disk, and renamed.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open
from torch import Tensor

from service import tensorfile
from service.errors import InvalidFile
from service.learners.base import JSON, State
from service.stream.source import Position

__all__ = [
    "OWN",
    "SCHEMA",
    "At",
    "Checkpoint",
    "force_folder",
    "ignore",
    "learner_in",
    "read_checkpoint",
    "read_position",
    "state_digest",
    "write_checkpoint",
]

SCHEMA: Final = "lethe-checkpoint/3"
At = Callable[[str], None]
"""Told each step of writing once it is done."""
OWN: Final = 0o600
LEARNER: Final = "learner."
SOLVED: Final = "solved."
RANDOM: Final = "random."


@dataclass(frozen=True)
class Checkpoint:
    """A run between two batches.

    ``fingerprint`` holds the settings that change what is learned; ``random`` torch's generator
    states by device; ``history`` and ``counts`` what the evaluation and the journal remember.
    """

    fingerprint: Mapping[str, JSON]
    position: Position
    learner: State
    random: Mapping[str, Tensor]
    history: JSON
    counts: JSON
    samples: int
    """Learned so far."""
    timing: JSON = None
    """How long the run has taken; None of a run that did not say."""
    drift: JSON = None
    """What the watch for boundaries remembers; None of a run without one."""
    ledger: JSON = None
    """Where the ledger stands, and the receipts that its file may lack; None without a ledger."""

    @property
    def digest(self) -> str:
        """SHA-256 over the learner's state: equal digests are bit-identical learners."""
        return state_digest(self.learner)


def state_digest(state: State) -> str:
    """Return the SHA-256, in hex, over a learner's tensors and values."""
    return tensorfile.digest(state.tensors, json.dumps(state.values, sort_keys=True))


def ignore(step: str) -> None:
    """Take no note of a step."""
    del step


def write_checkpoint(
    checkpoint: Checkpoint, path: Path, at: At = ignore, hashes: tensorfile.Hashes | None = None
) -> int:
    """Write a checkpoint to ``path``, atomically, and return its size in bytes.

    Nobody else than this user may read it: what a learner keeps of its samples is in it. ``hashes`` are
    of what the same learner's earlier checkpoints held.

    Raises OSError. If the rename did not come about, what was at ``path`` still is; if it did and only
    the folder could not be forced to the disk, the new checkpoint is there, and a crash of the machine,
    not of the process, may bring back the old one.
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
    }
    text = json.dumps(metadata, sort_keys=True)
    tensors = {LEARNER + name: tensor for name, tensor in checkpoint.learner.tensors.items()}
    marks = {LEARNER + name: mark for name, mark in checkpoint.learner.marks.items()}
    tensors |= {SOLVED + name: tensor for name, tensor in checkpoint.learner.solved.items()}
    tensors |= {RANDOM + name: tensor for name, tensor in checkpoint.random.items()}
    partial = path.with_name(f"{path.name}.partial")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OWN), "wb") as file:
            tensorfile.write(file, tensors, text, _sealed(text), marks, hashes)
            size = file.tell()
            file.flush()
            at("written")
            os.fsync(file.fileno())
            at("forced")
        partial.replace(path)
        at("renamed")
        force_folder(path.parent)
        at("folder forced")
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    return size


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and verify a checkpoint.

    Raises InvalidFile, naming the file and what is wrong with it, for whatever is not whole.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about: dict[str, str] = file.metadata() or {}
            text, sha256 = about["lethe"], about["sha256"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        if tensorfile.digest(tensors, _sealed(text)) != sha256:
            raise InvalidFile(f"{path} is corrupt: its SHA-256 does not match")
        return _from(json.loads(text), tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InvalidFile(f"{path} is not a checkpoint that can be read: {error}") from error


def read_position(path: Path) -> Position:
    """Read where a checkpoint stands, without its tensors, and without verifying them.

    Raises InvalidFile for what is no checkpoint.
    """
    try:
        return _position(_metadata(path)["position"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InvalidFile(f"{path} is not a checkpoint that can be read: {error}") from error


def learner_in(path: Path) -> str:
    """Read the name of the learner whose state a checkpoint holds, without verifying anything.

    Raises InvalidFile for what is no checkpoint.
    """
    try:
        return str(_metadata(path)["fingerprint"]["learner.name"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InvalidFile(f"{path} is not a checkpoint that can be read: {error}") from error


def _metadata(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        about: dict[str, Any] = json.loads((file.metadata() or {})["lethe"])
    return about


def _position(about: dict[str, Any]) -> Position:
    offsets, ends = (
        {int(partition): offset for partition, offset in about[name].items()} for name in ("offsets", "ends")
    )
    return Position(offsets, about["turn"], about["topic_id"], ends)


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
    )


def _named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _sealed(text: str) -> str:
    """Return what the SHA-256 of a file is over, besides the tensors."""
    return json.dumps({"metadata": text})


def force_folder(folder: Path) -> None:
    """Force renames to the disk: the folder's entry is what names a file. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
