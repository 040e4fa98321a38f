"""Exact erasure: a state folder whose learner never saw certain samples, when they are shown again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from service.checkpoint import Checkpoint, read_checkpoint
from service.errors import InvalidFile, InvalidSetting
from service.learners import create
from service.learners.base import Learner, LearnerContext
from service.learners.unlearning import Unlearns
from service.privacy.erasure import erased
from service.privacy.samples import read_samples
from service.state_folder import StateFolder, checkpoint_files, leftovers
from service.wire import Layout

__all__ = ["Forgotten", "forget", "learner_of"]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What an erasure did: ``samples`` are gone from ``checkpoint``, and in the ``remembering`` still."""

    learner: str
    samples: int
    checkpoint: Path
    remembering: Sequence[Path]


def forget(folder: Path, paths: Sequence[Path], label: int | None, *, drop_older: bool) -> Forgotten:
    """Write a checkpoint into ``folder`` whose learner has never learned the samples in ``paths``.

    The folder is locked meanwhile: its service has to be stopped, and goes on from the new
    checkpoint when it is started again. The ledger gets a receipt of how many samples were erased, and
    nothing else of them. Offsets, counts and what was measured stay as they are: the samples were
    received and learned, and a receipt of it is no trace of their content. So do the drift detectors'
    averages over images. Checkpoints written before remember the samples; ``drop_older`` deletes them,
    and those set aside by ``--fresh`` are only named.

    Raises InvalidFile for a folder without checkpoints, for a ledger that does not fit to the newest, and
    for samples that cannot be read, InvalidSetting while a service uses the folder and for a learner that
    cannot forget, NeverLearned, OSError; nothing has changed then.
    """
    files = checkpoint_files(folder)
    if not files:
        raise InvalidFile(f"{folder} holds no checkpoints")
    with StateFolder(folder, 1 if drop_older else len(files) + 1) as state:
        newest = checkpoint_files(folder)[-1]
        checkpoint = read_checkpoint(newest)  # an older one would bring back what came after it
        learner = learner_of(checkpoint)
        if not isinstance(learner, Unlearns):
            raise InvalidSetting(
                f"learner {learner.name} cannot forget a sample exactly: {learner.why_not_unlearn}"
            )
        samples = read_samples(paths, label, _layout(checkpoint))
        learner.load_state(checkpoint.learner)
        batch = int(str(checkpoint.fingerprint["batch.size"]))
        learner.unlearn(torch.from_numpy(samples.x_NCHW), torch.from_numpy(samples.y_N), batch)
        ledger, receipted = erased(folder, checkpoint, len(samples), learner.retains)
        state.write(replace(checkpoint, learner=learner.state(), ledger=receipted))
        ledger.force(ledger.mark)  # after a crash before this, the checkpoint has it
    written = checkpoint_files(folder)
    if drop_older:
        for path in leftovers(folder):
            if path.parent == folder:
                path.unlink()
    return Forgotten(learner.name, len(samples), written[-1], [*written[:-1], *leftovers(folder)])


def learner_of(checkpoint: Checkpoint) -> Learner:
    """Return a new learner of the checkpoint's kind, options and seed, on the CPU, with nothing learned."""
    settings = cast("dict[str, Any]", checkpoint.fingerprint)
    prefix = "learner.options."
    options = {name.removeprefix(prefix): v for name, v in settings.items() if name.startswith(prefix)}
    context = LearnerContext(_layout(checkpoint), settings["learner.seed"], options=options)
    return create(settings["learner.name"], context)


def _layout(checkpoint: Checkpoint) -> Layout:
    fields = {name: checkpoint.fingerprint[f"sample.{name}"] for name in Layout.model_fields}
    return Layout.model_validate(fields)
