"""safetensors files, written piece by piece and hashed meanwhile: nothing is copied, however large.

The library's own `save` holds the whole file in memory, twice. `safetensors.safe_open` reads both.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import IO, Final

import torch
from torch import Tensor

__all__ = ["digest", "write"]

DTYPES: Final = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
ALIGNMENT: Final = 8
LENGTH: Final = 8
"""Bytes that say how long the header is."""
PIECE: Final = 1 << 22
"""Bytes hashed and written at once: still in the processor's cache for the second of both."""
NOT_YET: Final = "0" * 64
"""Stands where the SHA-256 will be, once everything is written."""


def digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """Return the SHA-256, in hex, over ``text`` and the tensors' names, dtypes, shapes and bytes."""
    running = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        running.update(_label(name, tensors[name]))
        running.update(_bytes(tensors[name]))
    return running.hexdigest()


def write(file: IO[bytes], tensors: Mapping[str, Tensor], metadata: str, text: str) -> None:
    """Write the tensors, and as metadata two strings: ``lethe``, and ``sha256``, the `digest` with ``text``.

    Raises OSError, and ValueError for a dtype that no learner here has.
    """
    begins = _layout(tensors)
    header = _header(tensors, begins, metadata)
    file.write(len(header).to_bytes(LENGTH, "little"))
    file.write(header)
    running = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        running.update(_label(name, tensors[name]))
        content = _bytes(tensors[name])
        file.seek(LENGTH + len(header) + begins[name])
        for begin in range(0, len(content), PIECE):
            running.update(content[begin : begin + PIECE])
            file.write(content[begin : begin + PIECE])
    file.seek(LENGTH + header.index(NOT_YET.encode()))
    file.write(running.hexdigest().encode())
    file.seek(0, os.SEEK_END)


def _layout(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Return where each tensor begins: those of large numbers first, so that all are aligned."""
    begins, end = {}, 0
    for name in sorted(tensors, key=lambda name: (-tensors[name].element_size(), name)):
        begins[name] = end
        end += tensors[name].nbytes
    return begins


def _header(tensors: Mapping[str, Tensor], begins: Mapping[str, int], metadata: str) -> bytes:
    # the hash comes first: what it is searched for by may also be in the metadata
    about: dict[str, object] = {"__metadata__": {"sha256": NOT_YET, "lethe": metadata}}
    for name, begin in begins.items():
        tensor = tensors[name]
        if tensor.dtype not in DTYPES:
            raise ValueError(f"{name}: tensors of {tensor.dtype} cannot be kept")
        about[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, begin + tensor.nbytes],
        }
    header = json.dumps(about, separators=(",", ":"), ensure_ascii=False).encode()
    return header + b" " * (-len(header) % ALIGNMENT)


def _label(name: str, tensor: Tensor) -> bytes:
    return f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode()


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
