"""The second contract: a probe set is one held-out set in one safetensors file.

Producers write it (``lethe-replay probes``), the service reads it (``--probes DIR``). A
probe is retained data, so the file says where it came from and under which consent it is
kept, and carries a SHA-256 over its tensors.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from service.errors import InvalidFile
from service.wire import Pixels

__all__ = ["ProbeSet", "load_folder", "load_probe", "save_probe"]

SCHEMA: Final = "lethe-probe/1"
SUFFIX: Final = ".safetensors"


@dataclass(frozen=True, slots=True)
class ProbeSet:
    """A held-out set on which one skill is measured.

    ``x_NCHW`` is uint8 of shape [N, C, H, W], ``y_N`` int64 of shape [N]. ``name`` equals the
    ``segment`` header of the records that teach the skill.
    """

    name: str
    x_NCHW: Pixels
    y_N: npt.NDArray[np.int64]
    source: str
    consent: str

    @property
    def sha256(self) -> str:
        """Hex digest over shape, pixels and labels."""
        digest = hashlib.sha256(repr(self.x_NCHW.shape).encode())
        digest.update(np.ascontiguousarray(self.x_NCHW).data)
        digest.update(np.ascontiguousarray(self.y_N).data)
        return digest.hexdigest()


def save_probe(probe: ProbeSet, folder: Path, order: int) -> Path:
    """Write ``probe`` into ``folder`` and return the file's path.

    ``order`` is the place of the probe's skill in the scenario, from 0: probes are listed in
    the order in which they are learned.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{order:02d}-{probe.name}{SUFFIX}"
    about = {"schema": SCHEMA, "name": probe.name, "source": probe.source, "consent": probe.consent}
    metadata = {"lethe": json.dumps(about | {"sha256": probe.sha256})}
    save_file({"x": np.ascontiguousarray(probe.x_NCHW), "y": probe.y_N}, path, metadata)
    return path


def load_probe(path: Path) -> ProbeSet:
    """Read and verify one probe file.

    Raises InvalidFile when it is missing, is not a probe file, or its digest does not match.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads(file.metadata()["lethe"])
            probe = ProbeSet(
                about["name"], file.get_tensor("x"), file.get_tensor("y"), about["source"], about["consent"]
            )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InvalidFile(f"{path} is not a probe file that can be read: {error}") from error
    if about.get("schema") != SCHEMA:
        raise InvalidFile(f"{path} has schema {about.get('schema')}, this version reads {SCHEMA}")
    if probe.sha256 != about.get("sha256"):
        raise InvalidFile(f"{path} has changed since it was written: its SHA-256 does not match")
    return probe


def load_folder(folder: Path) -> list[ProbeSet]:
    """Read every probe file of ``folder``, in the order of their file names.

    Raises InvalidFile when the folder has none, or two have the same name.
    """
    probes = [load_probe(path) for path in sorted(folder.glob(f"*{SUFFIX}"))]
    if not probes:
        raise InvalidFile(f"{folder} holds no probe files: lethe-replay probes --out {folder} writes some")
    names = [probe.name for probe in probes]
    if len(set(names)) < len(names):
        raise InvalidFile(f"{folder} holds two probes of one name: {', '.join(sorted(names))}")
    return probes
