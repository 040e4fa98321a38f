"""The state of a stopped service whose learner keeps exact sums, read to be combined with others."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

from lethe.checkpointing.checkpoint import Checkpoint, load_learner, read_checkpoint
from lethe.checkpointing.state_folder import StateFolder, checkpoint_files
from lethe.errors import InvalidFile, InvalidSetting
from lethe.events import Resumed
from lethe.learners.base import Learner
from lethe.learners.capabilities import Capability, Merges
from lethe.learners.state import JSON, State
from lethe.privacy.audit.learned_offsets import LearnedOffsets, receipts_of
from lethe.privacy.audit.receipt import AddedState
from lethe.privacy.audit.receipt_writer import LEDGER, open_ledger
from lethe.privacy.stored_learner import OPTIONS, kind_of, learner_of, sums_digest

__all__ = ["SummedState", "check_alike", "check_new", "open_summed"]

DECISIVE: Final = ("learner.name", "learner.seed", OPTIONS, "sample.", "labels.", "stream.topic")
"""Beginnings of the settings on which the meaning of sums depends."""


@dataclass(frozen=True, slots=True)
class SummedState:
    """The newest checkpoint of a folder, and what its ledger says of it."""

    folder: Path
    checkpoint: Checkpoint
    learned: LearnedOffsets
    about: AddedState
    policies: frozenset[str | None]
    """Digests of all policies under which it was learned."""
    learned_at: float
    """When its last batch was learned, in seconds since 1970; 0 without one."""

    def without_tensors(self) -> "SummedState":
        """Return the same without the learner's state, which can be large."""
        return replace(self, checkpoint=replace(self.checkpoint, learner=State({}, {})))


@contextmanager
def open_summed(folder: Path, plugin: str | None = None) -> Iterator[tuple[SummedState, Learner]]:
    """Yield the state in ``folder``, which is locked meanwhile, and its learner, a `Merges`.

    ``plugin`` is that of `lethe.privacy.unlearn.forget`. Raises InvalidFile for a folder without checkpoints
    or with a ledger that does not match the newest one; InvalidSetting while a service uses the folder, and
    for a learner without exact sums.
    """
    files = checkpoint_files(folder)
    if not files:
        raise InvalidFile(f"{folder} holds no checkpoints")
    with StateFolder(folder, len(files) + 1):
        newest = checkpoint_files(folder)[-1]
        checkpoint = read_checkpoint(newest)
        learner = _learner_with_sums(checkpoint, newest, plugin)
        ledger = open_ledger(folder, checkpoint)
        receipts = receipts_of(folder, checkpoint)
        learned = LearnedOffsets.of(str(checkpoint.fingerprint["stream.topic"]), receipts)
        if learned.recreated:
            raise InvalidFile(
                f"{folder}: topic {learned.topic} was deleted and created again while it was learned, so not "
                "everything that it has learned is at an offset of the present topic"
            )
        counts = Resumed(**cast("dict[str, Any]", checkpoint.counts))
        if (counts.received, counts.learned) != (learned.received, learned.learned):
            raise InvalidFile(
                f"{folder}: the ledger counts {learned.learned} samples of {learned.received} records, the "
                f"checkpoint {counts.learned} of {counts.received}; see lethe audit"
            )
        batches = deque((receipt.learned_at for receipt in receipts if receipt.learned), maxlen=1)
        state = SummedState(
            folder,
            checkpoint,
            learned,
            AddedState(sums_digest(learner), ledger.mark.sequence, ledger.mark.head),
            frozenset(receipt.policy for receipt in receipts),
            batches[0] if batches else 0.0,
        )
        yield state, learner


def check_alike(one: SummedState, other: SummedState) -> None:
    """Raise InvalidSetting, naming each difference, unless both have the same learner and topic."""
    was, now = _decisive(one), _decisive(other)
    differences = [
        f"{name} is {was.get(name, 'not set')} in {one.folder}, {now.get(name, 'not set')} in {other.folder}"
        for name in was | now
        if was.get(name, ...) != now.get(name, ...)
    ]
    if differences:
        raise InvalidSetting(f"their sums do not mean the same: {'; '.join(differences)}")
    names = [state.checkpoint.position.classes for state in (one, other)]
    if any(mine != theirs for mine, theirs in zip(*names, strict=False)):
        raise InvalidSetting(
            f"their sums do not mean the same: the classes of {one.folder} appeared in another order than "
            f"those of {other.folder}; list the names in a file, labels.names"
        )
    ids = [state.checkpoint.position.topic_id for state in (one, other)]
    if None not in ids and ids[0] != ids[1]:
        raise InvalidSetting(
            f"topic {one.learned.topic} of {one.folder} is not that of {other.folder}: the broker's ids are "
            f"{ids[0]} and {ids[1]}"
        )


def check_new(out: Path) -> None:
    """Raise InvalidSetting if ``out`` holds a state already."""
    if checkpoint_files(out) or (out / LEDGER).exists():
        raise InvalidSetting(f"--out {out} holds a state already: name a new folder")


def _decisive(state: SummedState) -> dict[str, JSON]:
    return {name: v for name, v in state.checkpoint.fingerprint.items() if name.startswith(DECISIVE)}


def _learner_with_sums(checkpoint: Checkpoint, path: Path, plugin: str | None) -> Learner:
    kind = kind_of(checkpoint, path, plugin)
    if not issubclass(kind, Merges):  # checked before one is built, which may import what options name
        raise InvalidSetting(f"learner {kind.name} has no exact sums: {kind.why_not(Capability.MERGES)}")
    learner = learner_of(checkpoint, kind)
    load_learner(learner, checkpoint)
    return learner
