"""Rebuilds the learner that a checkpoint holds, without running code only because the checkpoint names it."""

import shlex
from pathlib import Path
from typing import Any, cast

from lethe.checkpointing import safetensors_writer
from lethe.checkpointing.checkpoint import Checkpoint
from lethe.errors import InvalidSetting
from lethe.learners.base import Learner, LearnerContext, Retention
from lethe.learners.capabilities import KeepsSums
from lethe.learners.registry import LEARNERS, find
from lethe.learners.state import JSON
from lethe.wire import Layout
from lethe.wire.class_names import ClassNames

__all__ = [
    "OPTIONS",
    "context_of",
    "kind_of",
    "layout_of",
    "learner_of",
    "names_of",
    "retention_of",
    "sums_digest",
    "total_digest",
]

OPTIONS = "learner.options."
"""Prefix of the learner's options in a checkpoint's fingerprint."""


def kind_of(checkpoint: Checkpoint, path: Path, plugin: str | None) -> type[Learner]:
    """Return the class of a checkpoint's learner; raises InvalidSetting if it is a plug-in not named."""
    name = str(checkpoint.fingerprint["learner.name"])
    if name in LEARNERS:
        return LEARNERS[name]
    if name != plugin:
        raise InvalidSetting(
            f"{path} was written by learner {name!r} of another package, whose code a checkpoint alone does "
            f"not cause to run: allow it with --learner {shlex.quote(name)}"
        )
    return find(name)


def learner_of(checkpoint: Checkpoint, kind: type[Learner]) -> Learner:
    """Return an untrained ``kind`` with the checkpoint's options, seed and scale of vectors, on the CPU.

    Raises InvalidSetting for bad options.
    """
    context = context_of(checkpoint)
    kind.Options.of(context.options)  # also for a learner that does not read its options
    learner = kind(context)
    if isinstance(learner, KeepsSums):
        learner.begin_as(checkpoint.learner)
    return learner


def retention_of(checkpoint: Checkpoint, kind: type[Learner]) -> Retention:
    """Return the most that a checkpoint's learner, a ``kind``, retains of any sample."""
    return kind.retention(layout_of(checkpoint), _options(checkpoint))


def _options(checkpoint: Checkpoint) -> dict[str, JSON]:
    settings = cast("dict[str, Any]", checkpoint.fingerprint)
    return {name.removeprefix(OPTIONS): v for name, v in settings.items() if name.startswith(OPTIONS)}


def context_of(checkpoint: Checkpoint) -> LearnerContext:
    """Return the layout, seed and options of a checkpoint's learner."""
    seed = int(cast("int", checkpoint.fingerprint["learner.seed"]))
    return LearnerContext(layout_of(checkpoint), seed, options=_options(checkpoint))


def sums_digest(learner: Learner) -> str:
    """Return the SHA-256, in hex, of a learner's exact sums; empty if it has none.

    It is the same for the same samples, on every machine; where a learner keeps several sums, for the same
    samples in each.
    """
    return safetensors_writer.digest(learner.sums(), "") if isinstance(learner, KeepsSums) else ""


def total_digest(learner: Learner) -> str:
    """Return the SHA-256, in hex, of a learner's exact sums over all samples; empty if it has none."""
    return safetensors_writer.digest(learner.total(), "") if isinstance(learner, KeepsSums) else ""


def names_of(checkpoint: Checkpoint) -> ClassNames | None:
    """Return the names of the classes, all of which are known; None where labels are numbers."""
    names = checkpoint.position.classes
    return ClassNames(names, len(names)) if names else None


def layout_of(checkpoint: Checkpoint) -> Layout:
    """Return the layout of a checkpoint's samples."""
    fields = {
        name: checkpoint.fingerprint[f"sample.{name}"]
        for name in Layout.model_fields
        if f"sample.{name}" in checkpoint.fingerprint  # older ones lack those that were added since
    }
    return Layout.model_validate(fields)
