"""Probe sets: held-out images or vectors and their labels, each set in one safetensors file.

Producers write them (``lethe-replay probes``), and the service reads them (``--probes DIR``). A probe set is
retained data, so its file names source and consent, and holds a SHA-256 of its tensors.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lethe.errors import InvalidFile
from lethe.files.bounded_json import read_json
from lethe.wire import Pixels
from lethe.wire.class_names import is_class_name

__all__ = ["ProbeSet", "check_probe", "class_names", "load_folder", "load_probe", "save_probe"]

SCHEMA: Final = "lethe-probe/1"
SUFFIX: Final = ".safetensors"
MAX_NAME_LENGTH: Final = 64
"""Maximum characters of a name, as in the ``segment`` header."""
MAX_NAME_BYTES: Final = 200
"""Maximum UTF-8 bytes of a name, which is also a file name."""


@dataclass(frozen=True, slots=True)
class ProbeSet:
    """A held-out set that measures what is retained of one segment.

    ``x_NCHW`` is uint8 of shape [N, C, H, W], or of vectors float32 of shape [N, F]; ``y_N`` is int64 of
    shape [N]. ``name`` equals the ``segment`` header of the records of that segment.
    """

    name: str
    x_NCHW: Pixels
    y_N: npt.NDArray[np.int64]
    source: str
    consent: str
    classes: tuple[str, ...] = ()
    """Names of the classes, by label; empty if they have only numbers."""

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of shape, pixels and labels."""
        digest = hashlib.sha256(repr(self.x_NCHW.shape).encode())
        digest.update(np.ascontiguousarray(self.x_NCHW).data)
        digest.update(np.ascontiguousarray(self.y_N).data)
        return digest.hexdigest()


def check_probe(probe: ProbeSet) -> None:
    """Raise InvalidFile unless name, dtypes and shapes of ``probe`` are as documented in `ProbeSet`.

    Images of another dtype would be evaluated with pixel values that the learner has never seen, and a stream
    has no vector with a number that is not finite.
    """
    x, y, name = probe.x_NCHW, probe.y_N, probe.name
    if not _is_valid_name(name):
        raise InvalidFile(
            f"probe {name!r}: a name must have 1 to {MAX_NAME_LENGTH} printable characters without a slash, "
            f"and at most {MAX_NAME_BYTES} bytes"
        )
    if not (isinstance(probe.source, str) and isinstance(probe.consent, str)):
        raise InvalidFile(f"probe {name}: source and consent must be strings")
    _check_array(name, "x", x, {np.dtype(np.uint8): "[N, C, H, W]", np.dtype(np.float32): "[N, F]"})
    _check_array(name, "y", y, {np.dtype(np.int64): "[N]"})
    if len(x) != len(y):
        raise InvalidFile(f"probe {name}: {len(x)} samples but {len(y)} labels")
    if x.dtype == np.float32 and not np.isfinite(x).all():
        raise InvalidFile(f"probe {name}: x has numbers that are not finite")
    if len(y) and y.min() < 0:
        raise InvalidFile(f"probe {name}: label {y.min()} is negative")
    if not (isinstance(probe.classes, tuple) and all(map(is_class_name, probe.classes))):
        raise InvalidFile(f"probe {name}: names of classes must be printable strings of 1 to 64 characters")
    if len(set(probe.classes)) < len(probe.classes):
        raise InvalidFile(f"probe {name}: two classes have the same name")
    if probe.classes and len(y) and y.max() >= len(probe.classes):
        raise InvalidFile(f"probe {name}: label {y.max()} has no name, there are {len(probe.classes)}")


def _check_array(name: str, what: str, array: object, allowed: Mapping[np.dtype[Any], str]) -> None:
    """Raise InvalidFile unless ``array`` is of an ``allowed`` dtype, with the axes of its shape there."""
    if not isinstance(array, np.ndarray):
        raise InvalidFile(f"probe {name}: {what} is a {type(array).__name__}, not a numpy array")
    if array.ndim != allowed.get(array.dtype, "").count(",") + 1 or array.dtype not in allowed:
        expected = " or ".join(f"{dtype} {shape}" for dtype, shape in allowed.items())
        raise InvalidFile(
            f"probe {name}: {what} is {array.dtype} of shape {list(array.shape)}, expected {expected}"
        )


def _is_valid_name(name: object) -> bool:
    """Return whether ``name`` is valid for a probe, its file and a segment."""
    if not isinstance(name, str) or not name.isprintable() or "/" in name:
        return False
    return 0 < len(name) <= MAX_NAME_LENGTH and len(name.encode()) <= MAX_NAME_BYTES


def save_probe(probe: ProbeSet, folder: Path, order: int) -> Path:
    """Write ``probe`` into ``folder`` and return the file's path.

    ``order`` is the index of the probe's segment in the scenario, from 0; probes are listed in this order.
    Raises InvalidFile, before writing, for a probe that could not be loaded.
    """
    check_probe(probe)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{order:02d}-{probe.name}{SUFFIX}"
    about = {"schema": SCHEMA, "name": probe.name, "source": probe.source, "consent": probe.consent}
    classes = {"classes": probe.classes} if probe.classes else {}
    metadata = {"lethe": json.dumps(about | classes | {"sha256": probe.sha256})}
    save_file({"x": np.ascontiguousarray(probe.x_NCHW), "y": np.ascontiguousarray(probe.y_N)}, path, metadata)
    return path


def load_probe(path: Path) -> ProbeSet:
    """Read and verify one probe file.

    Raises InvalidFile if it is missing, not a probe file, its SHA-256 does not match, or its content is not
    as documented in `ProbeSet`.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            about = read_json(file.metadata()["lethe"])
            probe = ProbeSet(
                about["name"],
                file.get_tensor("x"),
                file.get_tensor("y"),
                about["source"],
                about["consent"],
                tuple(about.get("classes", ())),
            )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InvalidFile(f"{path} is not a readable probe file: {error}") from error
    if about.get("schema") != SCHEMA:
        raise InvalidFile(f"{path} has schema {about.get('schema')}, expected {SCHEMA}")
    if probe.sha256 != about.get("sha256"):
        raise InvalidFile(f"{path} was modified or damaged: its SHA-256 does not match")
    try:
        check_probe(probe)
    except InvalidFile as error:
        raise InvalidFile(f"{path}: {error}") from None
    return probe


def load_folder(folder: Path) -> list[ProbeSet]:
    """Read all probe files of ``folder``, sorted by file name.

    Raises InvalidFile if there are none, or two have the same name.
    """
    probes = [load_probe(path) for path in sorted(folder.glob(f"*{SUFFIX}"))]
    if not probes:
        raise InvalidFile(f"{folder} holds no probe files; lethe-replay probes --out {folder} writes them")
    names = [probe.name for probe in probes]
    if len(set(names)) < len(names):
        raise InvalidFile(f"{folder} holds two probes of the same name: {', '.join(sorted(names))}")
    class_names(probes)
    return probes


def class_names(probes: Sequence[ProbeSet]) -> tuple[str, ...]:
    """Return the names of the stream's classes, which are those of every probe that has any.

    Raises InvalidFile, naming two probes, if a label has another name in one of them.
    """
    named = [probe for probe in probes if probe.classes]
    for probe in named[1:]:
        if probe.classes != named[0].classes:
            raise InvalidFile(
                f"probe {probe.name} has other names of classes than {named[0].name}: write both from one"
                " scenario"
            )
    return named[0].classes if named else ()
