"""Gives a run the learner of an older checkpoint back, at the position where the run is."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from lethe.checkpointing.checkpoint import Checkpoint, load_learner, read_checkpoint, read_samples
from lethe.checkpointing.state_folder import StateFolder, checkpoint_files
from lethe.errors import InvalidFile, InvalidSetting
from lethe.learners.base import Learner, Retention
from lethe.learners.capabilities import KeepsSums
from lethe.privacy.audit.learned_offsets import in_force
from lethe.privacy.audit.ledger import Entry, LedgerMark, read_until
from lethe.privacy.audit.receipt import Receipt, Span
from lethe.privacy.audit.receipt_writer import LEDGER, ledger_mark, open_ledger, stored_ledger
from lethe.privacy.rollback import check_not_private, held_samples, named_checkpoint
from lethe.privacy.stored_learner import kind_of, learner_of, retention_of, sums_digest

__all__ = ["Restoration", "restore_learner"]


@dataclass(frozen=True, slots=True)
class Restoration:
    """Result of a restoration: ``checkpoint`` has the older learner; newer files are in folder ``aside``."""

    older: int
    """Samples after which the older checkpoint was taken."""
    samples: int
    """Samples after which the run continues, as before."""
    unlearned: int
    """Samples that the learner no longer knows, and that are not read again."""
    checkpoint: Path
    aside: Path


def restore_learner(folder: Path, to: str | None, plugin: str | None = None) -> Restoration:
    """Write a checkpoint into ``folder``: the newest one, with the learner's state of an older one.

    ``to`` and ``plugin`` are those of `lethe.privacy.rollback.roll_back`; without ``to`` it is the newest
    that has learned less. Position, counts, measurements and random state stay, so every record is still
    learned once, and none is read again, whether or not the broker still has it. The checkpoints after the
    older one are moved aside, and the ledger gets a receipt: the samples learned since are unlearned. The
    folder is locked meanwhile, so the service has to be stopped.

    Raises InvalidFile for a folder without such a checkpoint or with a ledger that does not match,
    InvalidSetting while a service uses the folder, for checkpoints of different settings, and for what must
    not be undone: privacy that is spent, samples that were erased or whose time to live is over. OSError. In
    all these cases nothing has changed.
    """
    files = checkpoint_files(folder)
    if not files:
        raise InvalidFile(f"{folder} holds no checkpoints")
    with StateFolder(folder, len(files) + 1) as state:
        *_, newest_path = checkpoint_files(folder)
        newest = read_checkpoint(newest_path)
        path = _older(folder, to, newest)
        older = read_checkpoint(path)
        kind = kind_of(newest, newest_path, plugin)
        check_not_private(kind)
        _check_same_settings(path, older, newest)
        _check_time_to_live(newest, kind)
        entries = _entries(folder, newest)
        since = _since(entries, folder, path, older)
        unlearned = _samples(since)
        ledger = open_ledger(folder, newest)
        ledger.add(
            Receipt(
                kind="restoration",
                topic=str(newest.fingerprint["stream.topic"]),
                spans=_spans(older, newest),
                erased=unlearned,
                discarded_at=round(time.time(), 6),
                retention=retention_of(older, kind).value,
                policy=entries[-1].receipt.policy if entries else None,
                back_to=entries[-1].mark.sequence - len(since) if entries else 0,
                sums_before=_sums(newest, kind),
                sums_after=_sums(older, kind),
            )
        )
        state.write(replace(newest, learner=older.learner, ledger=stored_ledger(ledger, newest)))
        ledger.force(ledger.mark)  # after a crash before this line, the checkpoint holds the receipt
        *files, written = checkpoint_files(folder)
        aside = state.move_aside([file for file in files if file > path])
    return Restoration(older.samples, newest.samples, unlearned, written, aside)


def _older(folder: Path, to: str | None, newest: Checkpoint) -> Path:
    """Return the checkpoint that ``to`` names; without it the newest that has learned less."""
    if to is not None:
        path = named_checkpoint(folder, to)
        if path == checkpoint_files(folder)[-1] or read_samples(path) >= newest.samples:
            raise InvalidSetting(
                f"{path} is not older than the newest checkpoint, of {newest.samples} samples: "
                f"{folder} holds those of {held_samples(folder)}"
            )
        return path
    for path in reversed(checkpoint_files(folder)):
        try:
            if read_samples(path) < newest.samples:
                return path
        except InvalidFile:
            continue  # damaged: an older one may be whole
    raise InvalidFile(f"{folder} holds no older checkpoint: it holds those of {held_samples(folder)}")


def _check_same_settings(path: Path, older: Checkpoint, newest: Checkpoint) -> None:
    was, now = older.fingerprint, newest.fingerprint
    differences = [
        f"{name} was {was.get(name, 'not set')}, is {now.get(name, 'not set')}"
        for name in sorted({*was, *now})
        if was.get(name, ...) != now.get(name, ...)
    ]
    if differences:
        raise InvalidSetting(
            f"{path} is of other settings than the newest checkpoint, whose run cannot continue with its "
            f"learner: {'; '.join(differences)}"
        )


def _check_time_to_live(newest: Checkpoint, kind: type[Learner]) -> None:
    stored = cast("dict[str, Any]", newest.ledger or {})
    if kind.retains is Retention.SAMPLES and stored.get("kept") is not None:
        raise InvalidSetting(
            f"learner {kind.name} keeps samples, whose time the policy limits: an older state of it would "
            "bring back some whose time is over"
        )


def _entries(folder: Path, newest: Checkpoint) -> Sequence[Entry]:
    """Return the ledger up to ``newest``; raises InvalidFile if that names none, or not this one."""
    if newest.ledger is None:
        raise InvalidFile(f"the newest checkpoint in {folder} names no ledger")
    pending = cast("dict[str, Any]", newest.ledger)["pending"]
    return list(read_until(folder / LEDGER, ledger_mark(newest), pending))


def _since(entries: Sequence[Entry], folder: Path, path: Path, older: Checkpoint) -> Sequence[Entry]:
    """Return the receipts after ``older``, which is in ``path``.

    Raises InvalidFile if it is of another ledger, InvalidSetting if something was done since then that must
    not be undone.
    """
    mark = LedgerMark() if older.ledger is None else ledger_mark(older)
    since = [entry for entry in entries if entry.mark.sequence > mark.sequence]
    before = entries[: len(entries) - len(since)]
    if (before[-1].mark if before else LedgerMark()) != mark:
        raise InvalidFile(f"{path} is not of the ledger in {folder}")
    _check_undoable(path, older, [entry.receipt for entry in since], mark.sequence)
    return since


def _spans(older: Checkpoint, newest: Checkpoint) -> tuple[Span, ...]:
    """Return the offsets that were learned after ``older``."""
    here, there = newest.position.offsets, older.position.offsets
    return tuple(Span(p, there.get(p, 0), here[p]) for p in sorted(here) if here[p] > there.get(p, 0))


def _samples(since: Sequence[Entry]) -> int:
    """Return how many samples of these receipts the learner knows."""
    left = in_force(since)
    learned = sum(receipt.learned for receipt in left if receipt.kind == "batch")
    return learned - sum(receipt.erased for receipt in left if receipt.kind == "restoration")


def _check_undoable(path: Path, older: Checkpoint, since: Sequence[Receipt], mark: int) -> None:
    erased = sum(receipt.erased for receipt in since if receipt.kind in {"erasure", "subtraction"})
    if erased:
        raise InvalidSetting(
            f"{path} holds {erased} samples that were erased on request since: they must not be restored"
        )
    if any(receipt.kind == "recreation" for receipt in since):
        raise InvalidSetting(
            f"the topic was created again after {path}: which samples its learner does not know, no receipt "
            "could say"
        )
    undone = any(receipt.kind == "rollback" and (receipt.back_to or 0) < mark for receipt in since)
    offsets = older.position.offsets
    unlearned = any(
        span.first < offsets.get(span.partition, 0)
        for receipt in since
        if receipt.kind == "restoration"
        for span in receipt.spans
    )
    if undone or unlearned:
        raise InvalidSetting(
            f"{path} holds samples that an earlier `lethe checkpoint rollback` unlearned: they must not be "
            "restored"
        )


def _sums(checkpoint: Checkpoint, kind: type[Learner]) -> str:
    """Return the SHA-256 of the exact sums of a checkpoint's learner; empty if it keeps none."""
    if not issubclass(kind, KeepsSums):
        return ""
    learner = learner_of(checkpoint, kind)
    load_learner(learner, checkpoint)
    return sums_digest(learner)
