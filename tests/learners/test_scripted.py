"""Functions without the interpreter's lock."""

import importlib.util

import pytest
import torch
from torch import Tensor

from lethe.learners.features import hadamard
from lethe.learners.scripted import scripted


def doubled(x: Tensor) -> Tensor:
    """Return 2 x."""
    return 2 * x


def test_a_scripted_function_is_one_of_torchscript_with_its_own_docstring() -> None:
    function = scripted(doubled)
    assert isinstance(function, torch.jit.ScriptFunction)
    assert function.__doc__ == "Return 2 x."
    assert torch.equal(function(torch.arange(3)), torch.tensor([0, 2, 4]))


def test_a_function_beyond_torchscript_is_refused() -> None:
    def beyond(x: Tensor) -> Tensor:
        first: Tensor = sorted(x, key=str)[0]
        return first

    with pytest.raises(RuntimeError):
        scripted(beyond)


def test_a_torch_without_torchscript_runs_the_functions_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.jit, "script")
    assert scripted(doubled) is doubled
    assert hadamard.__spec__ is not None
    assert hadamard.__spec__.loader is not None
    plain = importlib.util.module_from_spec(hadamard.__spec__)
    hadamard.__spec__.loader.exec_module(plain)
    assert not isinstance(plain.hadamard_transform, torch.jit.ScriptFunction)
    x_nB = torch.randint(-(1 << 31), 1 << 31, (64, 3), generator=torch.Generator().manual_seed(0))
    x_nB = x_nB.to(torch.int32)
    for rows in (64, 20):
        expected = hadamard.hadamard_transform(x_nB.clone(), rows)
        assert torch.equal(plain.hadamard_transform(x_nB.clone(), rows), expected)
