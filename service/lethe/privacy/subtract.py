"""Takes the exact sums of one stopped service off those of another that contains them."""

import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from lethe.checkpointing.state_folder import StateFolder, checkpoint_files
from lethe.errors import InvalidSetting
from lethe.files.private import open_private
from lethe.learners.capabilities import Merges
from lethe.privacy.audit.ledger import Ledger
from lethe.privacy.audit.receipt import Receipt, Span
from lethe.privacy.audit.receipt_writer import LEDGER, ledger_mark, stored_ledger
from lethe.privacy.stored_learner import sums_digest
from lethe.privacy.summed_state import SummedState, check_alike, check_new, open_summed

__all__ = ["Subtraction", "subtract_state"]


@dataclass(frozen=True, slots=True)
class Subtraction:
    """Result of a subtraction: the ``samples`` that ``checkpoint`` lacks, and the SHA-256 of its sums."""

    learner: str
    samples: int
    checkpoint: Path
    sums: str


def subtract_state(
    folder: Path, other: Path, out: Path, plugin: str | None = None, *, trust_erasures: bool = False
) -> Subtraction:
    """Write a new state folder ``out``: that of ``folder``, less everything that ``other`` has learned.

    As after `lethe.privacy.unlearn.forget`, positions, counts and measurements stay, so what was subtracted
    is not read again. The ledger is a copy, with a receipt that names the sums of ``other`` and its spans.
    Both folders are locked while they are read.

    Which samples were erased from ``folder`` is recorded nowhere. If ``other`` still contains them, they
    would be subtracted twice, so a folder with erased samples is rejected unless the caller vouches that
    ``other`` contains none of them (``trust_erasures``).

    Raises InvalidFile for a folder without checkpoints or with a ledger that does not match; InvalidSetting
    for a folder in use, for a learner that has no exact sums, for different learners or topics, for offsets
    that ``folder`` has not learned; NeverLearned; in all these cases ``out`` holds no state. Raises OSError.
    """
    check_new(out)
    with open_summed(folder, plugin) as (state, learner), open_summed(other, plugin) as (part, _):
        check_alike(state, part)
        _check_within(state, part)
        erased = state.learned.erased
        if erased and not trust_erasures:
            raise InvalidSetting(
                f"{erased} samples were erased from {folder}; if {other} contains some of them, they would "
                "be subtracted twice: erase them there, too, and pass --trust-erasures"
            )
        before = sums_digest(learner)
        cast("Merges", learner).subtract(part.checkpoint.learner)
        sums, samples = sums_digest(learner), part.learned.learned - part.learned.erased
        with StateFolder(out, 1) as written:
            _copy_ledger(folder, out)
            ledger = Ledger(out / LEDGER, ledger_mark(state.checkpoint))
            ledger.add(
                Receipt(
                    kind="subtraction",
                    topic=state.learned.topic,
                    spans=_spans(part),
                    erased=samples,
                    discarded_at=round(time.time(), 6),
                    retention=learner.retains.value,
                    policy=next(iter(state.policies)) if len(state.policies) == 1 else None,
                    sums_before=before,
                    sums_after=sums,
                    states=(part.about,),
                )
            )
            stored = stored_ledger(ledger, state.checkpoint)
            written.write(replace(state.checkpoint, learner=learner.state(), ledger=stored))
            ledger.force(ledger.mark)  # after a crash before this line, the checkpoint holds the receipt
    return Subtraction(learner.name, samples, checkpoint_files(out)[-1], sums)


def _check_within(state: SummedState, part: SummedState) -> None:
    if part.learned.subtracted:
        raise InvalidSetting(
            f"{part.folder} is what a subtraction or an older learner left, at offsets that it still counts "
            "as learned: subtract the states that it was made of instead"
        )
    for span in _spans(part):
        where = f"topic {state.learned.topic}, partition {span.partition}"
        known = state.learned.spans.get(span.partition, Span(span.partition, 0, 0))
        if not known.first <= span.first <= span.next <= known.next:
            has = f"those from {known.first} to {known.next - 1}" if known.next > known.first else "none"
            raise InvalidSetting(
                f"{where}: {part.folder} has learned offsets {span.first} to {span.next - 1}, "
                f"{state.folder} {has}"
            )
        for gone in state.learned.subtracted:
            if gone.partition == span.partition and gone.first < span.next and span.first < gone.next:
                raise InvalidSetting(
                    f"{where}: offsets {gone.first} to {gone.next - 1} were subtracted from {state.folder} "
                    "before"
                )


def _spans(part: SummedState) -> tuple[Span, ...]:
    spans = part.learned.spans
    return tuple(
        spans[partition] for partition in sorted(spans) if spans[partition].next > spans[partition].first
    )


def _copy_ledger(folder: Path, out: Path) -> None:
    if (folder / LEDGER).exists():
        with (folder / LEDGER).open("rb") as source, open_private(out / LEDGER, os.O_TRUNC) as copy:
            shutil.copyfileobj(source, copy)
