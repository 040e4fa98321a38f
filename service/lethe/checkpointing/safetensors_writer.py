"""Writes safetensors files piece by piece, hashing as it writes, without a copy in memory.

Each tensor has its own SHA-256, and the file has one over these. So an unchanged tensor need not be hashed
again, and a file that is read is hashed by several threads.

The library's own `save` holds the whole file in memory twice. `safetensors.safe_open` reads both.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Final

import torch
from torch import Tensor

__all__ = ["Hashes", "digest", "write"]

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
"""Bytes of the header's length."""
PIECE: Final = 1 << 22
"""Bytes hashed and written at a time, which stay in the CPU's cache between the two."""
_THREADS: Final = 2
"""Threads that hash a file that is read."""
NOT_YET: Final = "0" * 64
"""Placeholder for the SHA-256 until everything is written."""


class Hashes:
    """A cache of the SHA-256 of tensors by name, valid while their marks (`State.marks`) are the same."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[object, bytes]] = {}

    def get(self, name: str, mark: object) -> bytes | None:
        """Return the SHA-256 of a tensor; None if it has to be computed."""
        known, sha256 = self._known.get(name, (None, b""))
        return sha256 if mark is not None and mark is known else None

    def put(self, name: str, mark: object, sha256: bytes) -> None:
        """Store the SHA-256 of a tensor until it has another mark."""
        self._known[name] = (mark, sha256)


def digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """Return the SHA-256, in hex, of ``text`` and each tensor's name, dtype, shape and own SHA-256."""
    running = hashlib.sha256(text.encode())
    names = sorted(tensors)
    with ThreadPoolExecutor(_THREADS) as pool:  # hashing releases the GIL
        for name, sha256 in zip(names, pool.map(lambda name: _sha256(tensors[name]), names), strict=True):
            running.update(_label(name, tensors[name]))
            running.update(sha256)
    return running.hexdigest()


def _sha256(tensor: Tensor) -> bytes:
    return hashlib.sha256(_bytes(tensor)).digest()


def write(
    file: IO[bytes],
    tensors: Mapping[str, Tensor],
    metadata: str,
    text: str,
    marks: Mapping[str, object] | None = None,
    hashes: Hashes | None = None,
) -> None:
    """Write the tensors, and two strings as metadata: ``lethe``, and ``sha256``, the `digest` with ``text``.

    A tensor whose mark is that of an earlier file is not hashed again. Raises OSError, and ValueError for an
    unsupported dtype.
    """
    marks, hashes = marks or {}, hashes or Hashes()
    begins = _layout(tensors)
    header = _header(tensors, begins, metadata)
    file.write(len(header).to_bytes(LENGTH, "little"))
    file.write(header)
    running = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        content, sha256 = _bytes(tensors[name]), hashes.get(name, marks.get(name))
        own = hashlib.sha256() if sha256 is None else None
        file.seek(LENGTH + len(header) + begins[name])
        for begin in range(0, len(content), PIECE):
            if own is not None:
                own.update(content[begin : begin + PIECE])
            file.write(content[begin : begin + PIECE])
        if own is not None:
            sha256 = own.digest()
            hashes.put(name, marks.get(name), sha256)
        running.update(_label(name, tensors[name]))
        running.update(sha256 or b"")
    file.seek(LENGTH + header.index(NOT_YET.encode()))
    file.write(running.hexdigest().encode())
    file.seek(0, os.SEEK_END)


def _layout(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the offset of each tensor: larger element sizes first, so that all are aligned."""
    begins, end = {}, 0
    for name in sorted(tensors, key=lambda name: (-tensors[name].element_size(), name)):
        begins[name] = end
        end += tensors[name].nbytes
    return begins


def _header(tensors: Mapping[str, Tensor], begins: Mapping[str, int], metadata: str) -> bytes:
    # the hash comes first, because its placeholder could also occur in the metadata
    about: dict[str, object] = {"__metadata__": {"sha256": NOT_YET, "lethe": metadata}}
    for name, begin in begins.items():
        tensor = tensors[name]
        if tensor.dtype not in DTYPES:
            raise ValueError(f"{name}: tensors of {tensor.dtype} cannot be stored")
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
