"""Verifies what a learner knows: computes its exact sums anew from given samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from lethe.checkpointing.checkpoint import load_learner, read_checkpoint
from lethe.checkpointing.state_folder import checkpoint_files
from lethe.errors import InvalidFile, InvalidSetting
from lethe.learners.capabilities import Capability, Merges
from lethe.privacy.samples import read_samples
from lethe.privacy.unlearn import kind_of, layout_of, learner_of, sums_digest

__all__ = ["SumsVerdict", "verify_sums"]

_AT_ONCE: Final = 1024


@dataclass(frozen=True, slots=True)
class SumsVerdict:
    """Result of a verification: SHA-256 of the sums in ``checkpoint``, and of those of the samples."""

    learner: str
    checkpoint: Path
    samples: int
    stored: str
    computed: str

    @property
    def equal(self) -> bool:
        """Whether the learner knows exactly the given samples, each once, and nothing else."""
        return self.stored == self.computed


def verify_sums(
    state: Path, paths: Sequence[Path], label: int | None, *, plugin: str | None = None
) -> SumsVerdict:
    """Compare the sums in the newest checkpoint of ``state``, or in a checkpoint file, with those of samples.

    ``paths``, ``label`` and ``plugin`` are those of `lethe.privacy.unlearn.forget`. The order of the samples
    and the sizes of the batches in which they were learned make no difference.

    Raises InvalidFile for a folder without checkpoints and for samples that cannot be read, InvalidSetting
    for a learner that has no exact sums.
    """
    files = checkpoint_files(state) if state.is_dir() else [state]
    if not files:
        raise InvalidFile(f"{state} holds no checkpoints")
    checkpoint = read_checkpoint(files[-1])
    kind = kind_of(checkpoint, files[-1], plugin)
    if not issubclass(kind, Merges):
        raise InvalidSetting(
            f"learner {kind.name} has no exact sums to verify: {kind.why_not(Capability.MERGES)}"
        )
    known, anew = learner_of(checkpoint, kind), learner_of(checkpoint, kind)
    load_learner(known, checkpoint)
    samples = read_samples(paths, label, layout_of(checkpoint))
    x_NCHW, y_N = torch.from_numpy(samples.x_NCHW), torch.from_numpy(samples.y_N)
    for x_BCHW, y_B in zip(torch.split(x_NCHW, _AT_ONCE), torch.split(y_N, _AT_ONCE), strict=True):
        anew.learn(x_BCHW, y_B)
    return SumsVerdict(kind.name, files[-1], len(samples), sums_digest(known), sums_digest(anew))
