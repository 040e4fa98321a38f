"""A folder in which a training job writes checkpoints as safetensors: the newest is the model."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from lethe.errors import InvalidSetting, TargetUnavailable
from lethe.runtime.watch.targets.function import imported
from lethe.runtime.watch.targets.target import Answers, Form, read_outputs
from lethe.wire import Pixels

__all__ = ["CheckpointTarget"]


class CheckpointTarget:
    """The newest ``*.safetensors`` in ``folder``, in the network that ``backbone`` makes.

    ``backbone``, ``package.module:factory``, takes no arguments and returns a module whose state dict the
    files hold. Each file is a version. Write a file under another name and rename it, so that it is complete.

    Raises InvalidSetting if the folder is none, or the network cannot be made.
    """

    def __init__(self, folder: Path, backbone: str, form: Form) -> None:
        if not folder.is_dir():
            raise InvalidSetting(f"--checkpoints {folder} is not a folder")
        network: Any = imported(backbone, "--backbone")()
        if not isinstance(network, nn.Module):
            raise InvalidSetting(f"--backbone {backbone} returned a {type(network).__name__}, not a network")
        self._network, self._folder, self._form = network.eval(), folder, form
        self.name, self.address = folder.name, f"checkpoints:{folder}"
        self._loaded: tuple[Path, int] | None = None
        self._past = set[tuple[Path, int]]()

    def ask(self, x_BCHW: Pixels) -> Answers:
        """Classify images. Raises TargetUnavailable while there is no checkpoint, UnexpectedAnswer."""
        if self._loaded is None:
            raise TargetUnavailable(f"{self._folder} holds no checkpoint yet: no *.safetensors")
        x = self._form.apply(x_BCHW)
        try:
            with torch.inference_mode():
                outputs = self._network(torch.from_numpy(np.require(x, requirements="W")))
        except (RuntimeError, TypeError, ValueError) as error:
            raise TargetUnavailable(f"the network does not take shape {list(x.shape)}: {error}") from error
        return read_outputs(outputs.numpy(), x.shape, self._loaded[0].stem)

    def refresh(self) -> str | None:
        """Load the oldest file that was not loaded yet, so that none is skipped; return the version.

        At the first call it is the newest file. Raises TargetUnavailable for one that does not fit.
        """
        files = _dated_files(self._folder)
        if self._loaded is None:
            self._past.update(files[:-1])
        new = [file for file in files if file not in self._past]
        if new:
            self._past.add(new[0])
            self._load(new[0][0])
            self._loaded = new[0]
        return None if self._loaded is None else self._loaded[0].stem

    def close(self) -> None:
        """Do nothing: the network goes with the process."""

    def _load(self, path: Path) -> None:
        try:
            self._network.load_state_dict(load_file(path))
        except OSError as error:
            raise TargetUnavailable(f"{path} cannot be read: {error.strerror or error}") from error
        except (SafetensorError, RuntimeError) as error:
            raise TargetUnavailable(f"{path} does not fit the network: {error}") from error


def _dated_files(folder: Path) -> list[tuple[Path, int]]:
    """Return the checkpoints in ``folder`` and when each was written, in nanoseconds, oldest first."""
    files = []
    for path in folder.glob("*.safetensors"):
        with suppress(FileNotFoundError):  # whoever trains the network deletes old ones
            files.append((path, path.stat().st_mtime_ns))
    return sorted(files, key=lambda file: (file[1], file[0].name))
