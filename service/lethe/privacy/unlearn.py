"""Erases samples exactly: writes a checkpoint whose learner never learned them."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch

from lethe.checkpointing.checkpoint import Checkpoint, load_learner, read_checkpoint
from lethe.checkpointing.state_folder import StateFolder, checkpoint_files, leftover_checkpoints
from lethe.errors import InvalidFile, InvalidSetting, NeverLearned
from lethe.learners.base import Learner, Retention
from lethe.learners.capabilities import Capability, Unlearns, UnlearnsFromRegimes
from lethe.learners.state import JSON
from lethe.privacy.audit.learned_offsets import receipts_of, regimes_at
from lethe.privacy.audit.ledger import Ledger, read_entries
from lethe.privacy.audit.receipt import Receipt
from lethe.privacy.audit.receipt_writer import LEDGER, open_ledger, stored_ledger
from lethe.privacy.samples import Samples, read_samples
from lethe.privacy.stored_learner import kind_of, layout_of, learner_of, names_of, sums_digest

__all__ = ["Erasure", "forget"]

SHOWN: Final = 3
"""Samples that an error names."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """Result of an erasure: ``samples`` are gone from ``checkpoint``; the ``remembering`` files still hold
    them."""

    learner: str
    samples: int
    checkpoint: Path
    remembering: Sequence[Path]


def forget(
    folder: Path,
    paths: Sequence[Path],
    label: int | None,
    *,
    drop_older: bool,
    plugin: str | None = None,
    trust_labels: bool = False,
    at: Sequence[tuple[int, int]] = (),
) -> Erasure:
    """Write a checkpoint into ``folder`` whose learner has never learned the samples in ``paths``.

    The folder is locked meanwhile, so its service has to be stopped; it continues from the new checkpoint
    when it is started again. The ledger gets a receipt of how many samples were erased, with the digests of
    the sums before and after, and nothing else about them. Offsets, counts and measurements stay: that the
    samples were received and learned says nothing about their content. The drift detector's averages over
    images stay, too. Older checkpoints still hold the samples; ``drop_older`` deletes them. Those set aside
    by ``--fresh`` are only listed in the result.

    Erasing a sample with a wrong label would damage two classes and not remove the sample, and
    apart from the first few samples the learner's sums do not show it. So a sample that the learner
    classifies differently from its label is rejected, unless the caller vouches for the labels
    (``trust_labels``).

    A learner that keeps sums of several regimes has each sample in those of one. Which one, the ledger says
    by the record's partition and offset: ``at``, in the order of the samples, or else those in their files.

    A checkpoint is data but names code: a learner of another package is imported only if ``plugin`` names
    it as well, and a network that an option names is never imported.

    Raises InvalidFile for a folder without checkpoints, for a ledger that does not match the newest one
    and for samples that cannot be read; InvalidSetting while a service uses the folder and for a learner
    that cannot unlearn; NeverLearned; OSError. In all these cases nothing has changed.
    """
    files = checkpoint_files(folder)
    if not files:
        raise InvalidFile(f"{folder} holds no checkpoints")
    with StateFolder(folder, 1 if drop_older else len(files) + 1) as state:
        newest = checkpoint_files(folder)[-1]
        checkpoint = read_checkpoint(newest)  # an older one would bring back what was learned after it
        kind = kind_of(checkpoint, newest, plugin)
        if not issubclass(kind, Unlearns):  # checked before one is built, which may import what options name
            raise _cannot(kind)
        learner = learner_of(checkpoint, kind)
        if not isinstance(learner, Unlearns):
            raise _cannot(kind)
        samples = read_samples(paths, label, layout_of(checkpoint), names_of(checkpoint))
        load_learner(learner, checkpoint)
        if not trust_labels:
            _check_labels(learner, samples)
        before = sums_digest(learner)
        x_NCHW, y_N = torch.from_numpy(samples.x_NCHW), torch.from_numpy(samples.y_N)
        if isinstance(learner, UnlearnsFromRegimes) and learner.regimes > 1:
            regimes = _regimes(folder, checkpoint, samples, at or samples.at)
            learner.unlearn(x_NCHW, y_N, torch.tensor(regimes))
        else:
            learner.unlearn(x_NCHW, y_N)
        sums = (before, sums_digest(learner))
        ledger, stored = _add_receipt(folder, checkpoint, len(samples), learner.retains, sums)
        state.write(replace(checkpoint, learner=learner.state(), ledger=stored))
        ledger.force(ledger.mark)  # after a crash before this line, the checkpoint holds the receipt
    written = checkpoint_files(folder)
    if drop_older:
        for path in leftover_checkpoints(folder):
            if path.parent == folder:
                path.unlink()
    return Erasure(learner.name, len(samples), written[-1], [*written[:-1], *leftover_checkpoints(folder)])


def _add_receipt(
    folder: Path, checkpoint: Checkpoint, samples: int, retention: Retention, sums: tuple[str, str]
) -> tuple[Ledger, JSON]:
    """Add a receipt of the erasure to the ledger; return the ledger and what a checkpoint stores of it.

    ``sums`` are the digests before and after it. The receipt is durable once a checkpoint holds what is
    returned; it names the policy of the receipt before it. Raises InvalidFile if the ledger does not belong
    to the checkpoint, or is ahead of it because a newer checkpoint is gone.
    """
    ledger, path = open_ledger(folder, checkpoint), folder / LEDGER
    latest = deque(read_entries(path), maxlen=1) if path.exists() else ()
    ledger.add(
        Receipt(
            kind="erasure",
            topic=str(checkpoint.fingerprint["stream.topic"]),
            spans=(),
            erased=samples,
            discarded_at=round(time.time(), 6),
            retention=retention.value,
            policy=latest[0].receipt.policy if latest else None,
            sums_before=sums[0],
            sums_after=sums[1],
        )
    )
    return ledger, stored_ledger(ledger, checkpoint)


def _cannot(kind: type[Learner]) -> InvalidSetting:
    return InvalidSetting(
        f"learner {kind.name} cannot forget a sample exactly: {kind.why_not(Capability.UNLEARNS)}"
    )


def _regimes(
    folder: Path, checkpoint: Checkpoint, samples: Samples, at: Sequence[tuple[int, int]]
) -> Sequence[int]:
    """Return the regime of each sample, by the place of its record; raises InvalidSetting without places."""
    if len(at) != len(samples):
        raise InvalidSetting(
            "the learner keeps sums of several regimes, and the place of a record says to which its sample "
            f"was added: {len(at)} places are given for {len(samples)} samples; give --at PARTITION:OFFSET "
            "for each, or an array at of such pairs in the .npz"
        )
    return regimes_at(receipts_of(folder, checkpoint), at)


def _check_labels(learner: Learner, samples: Samples) -> None:
    predicted_N = learner.predict_proba(torch.from_numpy(samples.x_NCHW)).argmax(1).numpy()
    pairs = enumerate(zip(predicted_N, samples.y_N, strict=True))
    wrong = [i for i, (predicted, label) in pairs if predicted != label]
    if wrong:
        shown = ", ".join(
            f"number {i + 1} as {predicted_N[i]} instead of {samples.y_N[i]}" for i in wrong[:SHOWN]
        )
        raise NeverLearned(
            f"{learner.name} classifies {len(wrong)} of {len(samples)} samples differently from their label "
            f"({shown}{', …' if len(wrong) > SHOWN else ''}): erasing a sample with a label that it was not "
            "learned with damages both classes; if the labels are certain, pass --trust-labels"
        )
