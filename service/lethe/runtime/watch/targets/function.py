"""A Python function that classifies images: imported by name, never unpickled."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from lethe.errors import InvalidSetting, TargetUnavailable
from lethe.runtime.watch.targets.target import Answers, Form, read_outputs
from lethe.wire import Pixels

__all__ = ["FunctionTarget", "imported"]


class FunctionTarget:
    """The function that ``reference``, ``package.module:name``, names.

    It takes an array of images in ``form``, and returns labels [B] or probabilities or scores [B, K], as an
    array or a tensor. It is called from one thread at a time if the loop asks with a concurrency of 1. An
    attribute ``version`` of the function, if there is one, is the version of the model.

    Raises InvalidSetting if it cannot be imported or called.
    """

    def __init__(self, reference: str, form: Form) -> None:
        self._function = imported(reference, "--python")
        self.name, self.address, self._form = reference, f"python:{reference}", form

    def ask(self, x_BCHW: Pixels) -> Answers:
        """Classify images. Raises TargetUnavailable if the function raises, UnexpectedAnswer."""
        x = self._form.apply(x_BCHW)
        try:
            outputs = self._function(x)
        except Exception as error:
            raise TargetUnavailable(f"{self.name} raised {type(error).__name__}: {error}") from error
        if isinstance(outputs, torch.Tensor):
            outputs = outputs.detach().cpu().numpy()
        return read_outputs(outputs, x.shape, self.refresh())

    def refresh(self) -> str | None:
        """Return the function's ``version``; None if it has none."""
        version = getattr(self._function, "version", None)
        return None if version is None else str(version)

    def close(self) -> None:
        """Do nothing: a function holds nothing."""


def imported(reference: str, option: str) -> Any:
    """Return what ``reference``, ``package.module:name``, names; the current folder is searched as well.

    Raises InvalidSetting, naming the ``option``, if there is none or it cannot be called.
    """
    module, colon, name = reference.partition(":")
    if not (module and colon and name):
        raise InvalidSetting(f"{option} {reference}: a name such as my_package.nets:resnet is needed")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InvalidSetting(f"{option} {reference}: {error}") from error
    if not callable(found):
        raise InvalidSetting(f"{option} {reference}: a {type(found).__name__} cannot be called")
    return found
