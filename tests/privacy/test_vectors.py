"""Vectors are forgotten exactly and verified, with a scale that was given and with one that was estimated."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lethe.errors import InvalidFile
from lethe.learners.state import JSON
from lethe.privacy.unlearn import forget
from lethe.privacy.verify_sums import verify_sums
from lethe.wire import Layout
from tests.support.states import service_state

GIVEN: Mapping[str, JSON] = {"location": [1000.0, 0.0, 0.0], "spread": [30.0, 1.0, 1.0]}
LEARNERS = ["ridge", "slda", "ncm"]


def vectors(count: int) -> tuple[Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(5)
    y_N = torch.randint(3, (count,), generator=drawn)
    lit_NF = 4.0 * torch.nn.functional.one_hot(y_N, 3) + torch.randn(count, 3, generator=drawn)
    return lit_NF * torch.tensor([30.0, 1, 1]) + torch.tensor([1000.0, 0, 0]), y_N


def state_of(folder: Path, name: str, options: Mapping[str, JSON], x_NF: Tensor, y_N: Tensor) -> Path:
    """Write the state of a service that learned these vectors in batches of 40."""
    settings = {"learner": {"options": dict(options)}}
    return service_state(folder, x_NF, y_N, name, layout=Layout(features=3, classes=3), settings=settings)


def file_of(path: Path, x_NF: Tensor, y_N: Tensor) -> Path:
    np.savez(path, x=x_NF.numpy(), y=y_N.numpy())
    return path


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("scale", [GIVEN, {}], ids=["given", "estimated"])
def test_they_are_forgotten_as_if_they_had_never_been_learned(
    name: str, scale: Mapping[str, JSON], tmp_path: Path
) -> None:
    x_NF, y_N = vectors(240)
    options = {"waves": 20, **scale}
    state = state_of(tmp_path / "state", name, options, x_NF, y_N)
    whole = file_of(tmp_path / "all.npz", x_NF, y_N)
    assert verify_sums(state, [whole], None).equal
    gone = file_of(tmp_path / "gone.npz", x_NF[80:100], y_N[80:100])
    forget(state, [gone], None, drop_older=True, trust_labels=True)
    assert not verify_sums(state, [whole], None).equal
    left = torch.cat([x_NF[:80], x_NF[100:]]), torch.cat([y_N[:80], y_N[100:]])
    assert verify_sums(state, [file_of(tmp_path / "left.npz", *left)], None).equal


def test_a_picture_is_no_vector(tmp_path: Path) -> None:
    state = state_of(tmp_path / "state", "ncm", {"waves": 20, **GIVEN}, *vectors(40))
    (tmp_path / "one.png").write_bytes(b"")
    with pytest.raises(InvalidFile, match="the samples are vectors, which a PNG cannot hold"):
        forget(state, [tmp_path / "one.png"], 1, drop_older=False)
    images = tmp_path / "images.npz"
    np.savez(images, x=np.zeros((2, 8, 8), np.uint8), y=np.zeros(2, np.int64))
    with pytest.raises(InvalidFile, match=r"has to be float32 of shape \[N, 3\]"):
        verify_sums(state, [images], None)
