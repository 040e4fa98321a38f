"""Verifies what a learner knows: computes its exact sums anew from samples or from a topic."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from lethe.checkpointing.checkpoint import Checkpoint, load_learner, read_checkpoint
from lethe.checkpointing.state_folder import checkpoint_files
from lethe.errors import InvalidFile, InvalidSetting, MalformedRecord
from lethe.learners.base import Learner
from lethe.learners.capabilities import Capability, KeepsSums
from lethe.privacy.audit.learned_offsets import LearnedOffsets, receipts_of
from lethe.privacy.read_again import OnRead, read_again
from lethe.privacy.samples import read_samples
from lethe.privacy.stored_learner import kind_of, layout_of, learner_of, names_of, total_digest
from lethe.stream.settings import StreamSettings
from lethe.wire import Layout, Sample, decode
from lethe.wire.class_names import ClassNames

__all__ = ["SumsVerdict", "verify_sums", "verify_topic"]

_AT_ONCE: Final = 1024


@dataclass(frozen=True, slots=True)
class SumsVerdict:
    """Result of a verification: SHA-256 of the sums in ``checkpoint``, and of those of the samples.

    A learner that keeps sums by regime is compared by their total.
    """

    learner: str
    checkpoint: Path
    samples: int
    stored: str
    computed: str
    erased: int = 0
    """Samples that were erased from the learner, as far as a ledger was read."""

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
    checkpoint, path, kind = _stored(state, plugin)
    anew = learner_of(checkpoint, kind)
    samples = _learn_files(anew, checkpoint, paths, label)
    return SumsVerdict(kind.name, path, samples, _digest(checkpoint, kind), total_digest(anew))


def verify_topic(
    state: Path,
    stream: StreamSettings,
    topic: str | None = None,
    without: Sequence[Path] = (),
    label: int | None = None,
    *,
    plugin: str | None = None,
    on_read: OnRead = lambda _done, _of: None,
) -> SumsVerdict:
    """Compare the sums with those of the records at the learned offsets, on the cluster of ``stream``.

    These are the offsets that the ledger beside the checkpoint names, without subtracted ones, in ``topic``
    or else in the topic that was learned. The records are decoded as the service does. The samples in the
    files ``without``, with their ``label``, are left out: those that were erased.

    Raises what `verify_sums` raises, also if a sample to leave out is not there; PositionLost if some of the
    records are gone, BrokerUnavailable.
    """
    checkpoint, path, kind = _stored(state, plugin)
    learned = LearnedOffsets.of(
        str(checkpoint.fingerprint["stream.topic"]), receipts_of(path.parent, checkpoint)
    )
    if checkpoint.fingerprint.get("labels.topic"):
        raise InvalidSetting(
            f"{path}: labels came from topic {checkpoint.fingerprint['labels.topic']}, and the records of "
            f"{learned.topic} do not have them: name files with all samples"
        )
    stream = stream.model_copy(update={"topic": topic or learned.topic})
    anew, layout = learner_of(checkpoint, kind), layout_of(checkpoint)
    names = names_of(checkpoint)
    left_out = _contents(without, label, layout, names)

    def decoded() -> Iterator[Sample]:
        for record in read_again(learned, stream, checkpoint.position.topic_id, on_read):
            try:
                sample = decode(record.value, record.headers, layout, names=names)
            except MalformedRecord:
                continue  # it was dead-lettered
            if not learned.knows(record.partition, record.offset):
                continue
            if left_out[content := _content(sample)]:
                left_out[content] -= 1
            else:
                yield sample

    samples = _learn(anew, decoded())
    if missing := left_out.total():
        raise InvalidFile(f"{missing} samples of --without are not among the records that were learned")
    stored = _digest(checkpoint, kind)
    return SumsVerdict(kind.name, path, samples, stored, total_digest(anew), learned.erased)


def _stored(state: Path, plugin: str | None) -> tuple[Checkpoint, Path, type[Learner]]:
    files = checkpoint_files(state) if state.is_dir() else [state]
    if not files:
        raise InvalidFile(f"{state} holds no checkpoints")
    checkpoint = read_checkpoint(files[-1])
    kind = kind_of(checkpoint, files[-1], plugin)
    if not issubclass(kind, KeepsSums):
        raise InvalidSetting(
            f"learner {kind.name} has no exact sums to verify: {kind.why_not(Capability.MERGES)}"
        )
    return checkpoint, files[-1], kind


def _content(sample: Sample) -> tuple[bytes, int]:
    return sample.pixels.tobytes(), sample.label


def _contents(
    paths: Sequence[Path], label: int | None, layout: Layout, names: ClassNames | None
) -> Counter[tuple[bytes, int]]:
    """Return how often each sample is in the files, by its pixels and label."""
    if not paths:
        return Counter()
    samples = read_samples(paths, label, layout, names)
    return Counter(
        _content(Sample(x_CHW, int(y))) for x_CHW, y in zip(samples.x_NCHW, samples.y_N, strict=True)
    )


def _digest(checkpoint: Checkpoint, kind: type[Learner]) -> str:
    known = learner_of(checkpoint, kind)
    load_learner(known, checkpoint)
    return total_digest(known)


def _learn_files(anew: Learner, checkpoint: Checkpoint, paths: Sequence[Path], label: int | None) -> int:
    """Have ``anew`` learn the samples in files; return how many there were."""
    samples = read_samples(paths, label, layout_of(checkpoint), names_of(checkpoint))
    x_NCHW, y_N = torch.from_numpy(samples.x_NCHW), torch.from_numpy(samples.y_N)
    for x_BCHW, y_B in zip(torch.split(x_NCHW, _AT_ONCE), torch.split(y_N, _AT_ONCE), strict=True):
        anew.learn(x_BCHW, y_B)
    return len(samples)


def _learn(anew: Learner, samples: Iterable[Sample]) -> int:
    """Have ``anew`` learn samples; return how many there were."""
    count, remaining = 0, iter(samples)
    while batch := list(islice(remaining, _AT_ONCE)):
        anew.learn(*_stacked(batch))
        count += len(batch)
    return count


def _stacked(batch: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    x_BCHW = torch.from_numpy(np.stack([sample.pixels for sample in batch]))
    return x_BCHW, torch.tensor([sample.label for sample in batch])
