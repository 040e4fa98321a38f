"""Rolls a run back to an older checkpoint, so that it continues from there, possibly with other options."""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from lethe.checkpointing.checkpoint import Checkpoint, read_checkpoint, read_samples
from lethe.checkpointing.state_folder import StateFolder, checkpoint_files
from lethe.errors import InvalidFile, InvalidSetting, PositionLost
from lethe.learners.base import Learner
from lethe.learners.finite import abbreviated, not_finite
from lethe.learners.private.base import PrivateLearner
from lethe.learners.state import JSON, State
from lethe.privacy.audit.ledger import Ledger, read_entries
from lethe.privacy.audit.receipt import Receipt, Span
from lethe.privacy.audit.receipt_writer import LEDGER, ledger_mark, stored_ledger
from lethe.privacy.stored_learner import OPTIONS, kind_of, retention_of

__all__ = ["Rollback", "check_not_private", "held_samples", "named_checkpoint", "roll_back"]

RESETS_OPTIMIZER = {"optimizer", "optimizer_options"}
"""Options whose change resets the optimizer, because another optimizer cannot use its state."""


@dataclass(frozen=True, slots=True)
class Rollback:
    """Result of a rollback: the run continues from ``checkpoint``; newer ones are in folder ``aside``."""

    samples: int
    """Samples that the checkpoint holds."""
    unlearned: int
    """Samples that only newer checkpoints held."""
    checkpoint: Path
    aside: Path | None
    changed: Mapping[str, tuple[JSON, JSON]]
    """Changed options, each with its old and its new value."""


def roll_back(
    folder: Path, to: str | None, options: Mapping[str, JSON], plugin: str | None = None
) -> Rollback:
    """Copy the newest checkpoint of ``folder``, or the one ``to`` names, with other ``options``.

    ``to`` is a number of samples or a file in ``folder``. Newer checkpoints are moved aside, and the ledger
    gets a receipt: what was learned since is unlearned, and its records are read again. The folder is locked
    meanwhile, so the service has to be stopped; it continues when it is started with the new options. Nothing
    that the checkpoint names is imported, except the plug-in learner that ``plugin`` names as well.

    Raises InvalidFile for a folder without such a checkpoint or with a ledger that does not match,
    InvalidSetting for an unknown option and for what must not be undone, PositionLost if the policy has
    deleted the records from the broker, OSError. In all these cases nothing has changed.
    """
    files = checkpoint_files(folder)
    if not files:
        raise InvalidFile(f"{folder} holds no checkpoints")
    with StateFolder(folder, len(files) + 1) as state:
        path = _chosen(folder, to)
        newer = [file for file in checkpoint_files(folder) if file > path]
        chosen = read_checkpoint(path)
        kind = kind_of(chosen, path, plugin)
        check_not_private(kind)
        before, after = _options(chosen, kind, options)
        changed = {name: (was, after[name]) for name, was in before.items() if was != after[name]}
        unlearned = max([read_samples(file) for file in newer], default=chosen.samples) - chosen.samples
        if not (newer or changed):
            raise InvalidSetting(
                f"{path} is the newest checkpoint and no option changes: --option NAME=VALUE changes one, "
                f"--to goes further back, to {held_samples(folder)}"
            )
        ledger, stored = _add_receipt(folder, path, chosen, kind)
        fingerprint = {**chosen.fingerprint, **{f"{OPTIONS}{name}": value for name, value in after.items()}}
        learner = _without_moments(chosen.learner) if RESETS_OPTIMIZER & changed.keys() else chosen.learner
        state.write(replace(chosen, fingerprint=fingerprint, learner=learner, ledger=stored))
        if ledger is not None:
            ledger.force(ledger.mark)  # after a crash before this line, the checkpoint holds the receipt
        aside = state.move_aside(newer) if newer else None
    return Rollback(chosen.samples, unlearned, checkpoint_files(folder)[-1], aside, changed)


def _chosen(folder: Path, to: str | None) -> Path:
    """Return the checkpoint that ``to`` names; without it the newest that a run can continue from."""
    return _newest_finite(checkpoint_files(folder)) if to is None else named_checkpoint(folder, to)


def named_checkpoint(folder: Path, to: str) -> Path:
    """Return the newest checkpoint in ``folder`` that ``to`` names, by its samples or its file.

    Raises InvalidFile if there is none.
    """
    files = checkpoint_files(folder)
    if to.replace(",", "").isdigit():
        found = [file for file in files if _samples(file) == int(to.replace(",", ""))]
    else:
        found = [file for file in files if file.name == Path(to).name and Path(to).parent in {Path(), folder}]
    if not found:
        raise InvalidFile(f"{folder} holds no checkpoint {to}: it holds those of {held_samples(folder)}")
    return found[-1]


def _newest_finite(files: list[Path]) -> Path:
    """Return the newest readable one; tensors that are not finite must have been so in the oldest, too."""
    allowed: set[str] | None = None
    found: list[Path] = []
    reasons: list[str] = []
    for file in files:
        try:
            names = set(not_finite(read_checkpoint(file).learner.tensors))
        except InvalidFile as error:
            reasons.append(str(error))
            continue
        allowed = names if allowed is None else allowed
        if names <= allowed:
            found.append(file)
        else:
            reasons.append(f"{file}: numbers in it are not finite: {abbreviated(sorted(names - allowed))}")
    if not found:
        raise InvalidFile(f"none of the {len(files)} checkpoints can be used: {'; '.join(reasons)}")
    return found[-1]


def _samples(file: Path) -> int | None:
    try:
        return read_samples(file)
    except InvalidFile:
        return None


def held_samples(folder: Path) -> str:
    """Return, for a message, after how many samples each checkpoint in ``folder`` was taken."""
    held = [str(samples) for file in checkpoint_files(folder) if (samples := _samples(file)) is not None]
    return f"{', '.join(dict.fromkeys(held))} samples"


def check_not_private(kind: type[Learner]) -> None:
    """Raise InvalidSetting for a differentially private learner: what it has spent cannot be undone."""
    if issubclass(kind, PrivateLearner):
        raise InvalidSetting(
            f"learner {kind.name} is differentially private: a rollback does not undo the privacy it has "
            "spent; --fresh starts from the beginning, which spends its ε once more"
        )


def _options(
    checkpoint: Checkpoint, kind: type[Learner], given: Mapping[str, JSON]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the checkpoint's options, and the same updated with ``given``; raises InvalidSetting."""
    of = checkpoint.fingerprint
    before = {name.removeprefix(OPTIONS): v for name, v in of.items() if name.startswith(OPTIONS)}
    return before, kind.Options.of({**before, **given}).model_dump(mode="json")


def _without_moments(state: State) -> State:
    """Return ``state`` without the optimizer's state for the network's parameters."""

    def is_moment(name: str) -> bool:
        parameter = name.removeprefix("optimizer.").rpartition(".")[0]
        return name.startswith("optimizer.") and f"model.{parameter}" in state.tensors

    kept = {name: tensor for name, tensor in state.tensors.items() if not is_moment(name)}
    return State(kept, state.values, state.solved)


def _add_receipt(
    folder: Path, path: Path, chosen: Checkpoint, kind: type[Learner]
) -> tuple[Ledger | None, JSON]:
    """Add a receipt of the rollback to the ledger; return the ledger and what a checkpoint stores of it.

    The receipt is durable once a checkpoint holds what is returned; it names the policy of the receipt
    before it.
    """
    if chosen.ledger is None:
        return None, None
    file, kept = folder / LEDGER, cast("dict[str, Any]", chosen.ledger)
    mark = ledger_mark(chosen)
    ledger = Ledger(file, mark, kept["pending"])
    entries = read_entries(file) if file.exists() else ()
    after = deque(entry.receipt for entry in entries if entry.mark.sequence > mark.sequence)
    erased = sum(receipt.erased for receipt in after if receipt.kind == "erasure")
    if erased:
        raise InvalidSetting(
            f"{path} holds {erased} samples that were erased on request since: they must not be restored"
        )
    if any(receipt.kind == "recreation" for receipt in after):
        raise PositionLost(f"the topic was created again after {path}: the records to continue with are gone")
    offsets = chosen.position.offsets
    purged = {span.partition: span.next for r in after if r.kind == "purge" for span in r.spans}
    gone = {p: end for p, end in purged.items() if end > offsets.get(p, 0)}
    if gone:
        raise PositionLost(
            f"{path} continues at offsets {dict(offsets)}, and the policy has deleted everything before "
            f"{gone} from the broker: under a policy that purges, a run cannot go back beyond that"
        )
    reached = {span.partition: span.next for r in after if r.kind == "batch" for span in r.spans}
    spans = [Span(p, offsets.get(p, 0), end) for p, end in sorted(reached.items()) if end > offsets.get(p, 0)]
    if spans:
        ledger.add(
            Receipt(
                kind="rollback",
                topic=str(chosen.fingerprint["stream.topic"]),
                spans=tuple(spans),
                discarded_at=round(time.time(), 6),
                retention=retention_of(chosen, kind).value,
                policy=after[-1].policy,
                back_to=mark.sequence,
            )
        )
    return ledger, stored_ledger(ledger, chosen)
