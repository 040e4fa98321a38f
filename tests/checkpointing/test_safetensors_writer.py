"""Tensor files: the safetensors library reads them, and writing one copies no tensor."""

import io
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from lethe.checkpointing import safetensors_writer

MIXED = {
    "flags": torch.tensor([True, False, True]),
    "weights": torch.arange(5, dtype=torch.float64),
    "bytes": torch.arange(7, dtype=torch.uint8),
    "none": torch.zeros(0, 3),
    "scale": torch.tensor(0.5, dtype=torch.bfloat16),
    "view": torch.arange(12.0).reshape(3, 4).T[1:],
}


def test_the_library_reads_every_dtype(tmp_path: Path) -> None:
    with (tmp_path / "mixed").open("wb") as file:
        safetensors_writer.write(
            file, MIXED, f'text with {safetensors_writer.NOT_YET}, ü and "quotes"', "sealed"
        )
    with safe_open(tmp_path / "mixed", framework="pt") as found:
        about = found.metadata()
        for name, tensor in MIXED.items():
            assert torch.equal(found.get_tensor(name), tensor), name
            assert found.get_tensor(name).dtype is tensor.dtype
    assert about["lethe"] == f'text with {safetensors_writer.NOT_YET}, ü and "quotes"'
    assert about["sha256"] == safetensors_writer.digest(MIXED, "sealed")


def test_a_tensor_is_written_in_pieces_without_copying_it() -> None:
    class Counting(io.BytesIO):
        largest = 0

        def write(self, data: object) -> int:
            assert isinstance(data, bytes | memoryview)
            self.largest = max(self.largest, len(data))
            return super().write(data)

    file, large = Counting(), torch.arange(3 * safetensors_writer.PIECE // 4 + 5, dtype=torch.float32)
    safetensors_writer.write(file, {"large": large}, "", "")
    assert file.largest == safetensors_writer.PIECE
    assert file.getvalue().endswith(large.numpy().tobytes())


def test_a_dtype_that_cannot_be_stored_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"odd: tensors of torch\.complex64 cannot be stored"):
        safetensors_writer.write(io.BytesIO(), {"odd": torch.zeros(2, dtype=torch.complex64)}, "", "")
