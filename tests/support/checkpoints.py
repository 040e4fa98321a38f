"""Checkpoints for tests: small ones, generated ones, and a comparison bit for bit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from lethe.checkpointing.checkpoint import Checkpoint, read_checkpoint, read_samples
from lethe.checkpointing.state_folder import StateFolder, checkpoint_files
from lethe.errors import InvalidFile
from lethe.learners.state import JSON, State
from lethe.stream.source import Position

__all__ = [
    "DTYPES",
    "bits",
    "checkpoint",
    "checkpoints",
    "newest",
    "refuse",
    "same",
    "samples_of_newest",
    "saved_samples",
    "tensors",
]

DTYPES: Final = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
)


def checkpoint(samples: int = 64, tensor: Tensor | None = None) -> Checkpoint:
    """A checkpoint after so many samples of one partition."""
    weights = torch.arange(6.0).reshape(2, 3) + samples if tensor is None else tensor
    return Checkpoint(
        fingerprint={"learner.name": "made up"},
        position=Position({0: samples}, 0, "topic"),
        learner=State({"weights": weights}, {"step": samples}),
        random={"cpu": torch.arange(8, dtype=torch.uint8)},
        history={"curve": [0.1, 0.2]},
        counts={"received": samples, "learned": samples, "dead": {}, "lost": 0},
        samples=samples,
    )


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Any dtype and shape, none too large, any bits: NaNs with payloads and infinities as well."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    size = int(np.prod(shape, dtype=int)) * dtype.itemsize
    raw = np.random.default_rng(draw(st.integers(0, 2**32))).integers(0, 256, size, np.uint8)
    raw = raw & 1 if dtype is torch.bool else raw
    if not size:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(raw.tobytes()), dtype=dtype).reshape(shape)


NAMES = st.text(max_size=8)
NUMBERS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
VALUES: st.SearchStrategy[JSON] = st.recursive(
    NUMBERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def checkpoints(draw: st.DrawFn) -> Checkpoint:
    """A checkpoint with any content that a learner or a history may have."""
    offsets = st.dictionaries(st.integers(0, 99), st.integers(0, 2**62), max_size=3)
    return Checkpoint(
        fingerprint=draw(st.dictionaries(NAMES, VALUES, max_size=3)),
        position=Position(draw(offsets), draw(st.integers(0, 9)), draw(st.none() | NAMES)),
        learner=State(
            draw(st.dictionaries(NAMES, tensors(), max_size=3)),
            draw(st.dictionaries(NAMES, VALUES, max_size=3)),
        ),
        random=draw(st.dictionaries(NAMES, tensors(), max_size=2)),
        history=draw(VALUES),
        counts=draw(VALUES),
        samples=draw(st.integers(0, 2**62)),
    )


def bits(named: Mapping[str, Tensor]) -> dict[str, tuple[object, ...]]:
    """Shape, type and bits of a tensor, for comparisons: NaN is not equal to itself."""
    return {
        name: (tensor.dtype, tensor.shape, tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
        for name, tensor in named.items()
    }


def same(a: Checkpoint, b: Checkpoint) -> bool:
    """Whether two checkpoints are equal to the last bit."""
    return (
        bits(a.learner.tensors) == bits(b.learner.tensors)
        and bits(a.random) == bits(b.random)
        and (a.fingerprint, a.position, a.learner.values, a.history, a.counts, a.samples)
        == (b.fingerprint, b.position, b.learner.values, b.history, b.counts, b.samples)
    )


def refuse(path: Path, error: InvalidFile) -> None:
    """Fail if a checkpoint is skipped."""
    raise AssertionError(f"{path} was passed over: {error}")


def newest(folder: Path) -> Checkpoint:
    """Return the newest checkpoint of a state folder."""
    return read_checkpoint(checkpoint_files(folder)[-1])


def samples_of_newest(folder: StateFolder) -> int:
    """Return the samples of the newest checkpoint, which must be whole."""
    newest = folder.load_newest(refuse)
    assert newest is not None
    return newest.samples


def saved_samples(folder: Path) -> int:
    """Return the samples of the newest checkpoint of a running service; 0 if none can be read at present."""
    try:
        return max(map(read_samples, checkpoint_files(folder)), default=0)
    except InvalidFile:  # an old one, deleted meanwhile
        return 0
