"""Optimizers of torch by name, and their state per parameter as tensors."""

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from lethe.errors import InvalidSetting

__all__ = ["create_optimizer", "load_moments", "moments", "optimizer_kind"]

_FUSED: Final = ("Adam", "AdamW", "SGD")  # one pass over each parameter, on a CPU and on CUDA
_UNFIT: Final = {
    "Optimizer": "is their base class",
    "LBFGS": "needs the loss several times per step",
    "SparseAdam": "takes sparse gradients only",
}


def optimizer_kind(name: str) -> type[torch.optim.Optimizer]:
    """Return the class ``torch.optim.NAME``; raises ValueError when it cannot train a learner."""
    kind = _there_are().get(name)
    if kind is None:
        raise ValueError(f"torch.optim has no optimizer {name!r}")
    if name in _UNFIT:
        raise ValueError(f"torch.optim.{name} {_UNFIT[name]}")
    return kind


def _there_are() -> dict[str, type[torch.optim.Optimizer]]:
    return {
        name: kind
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)
    }


def create_optimizer(
    name: str, parameters: Mapping[str, nn.Parameter], lr: float, more: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """Return ``torch.optim.NAME`` with the arguments ``more``; raises InvalidSetting for invalid ones."""
    arguments = {"lr": lr} | ({"fused": True} if name in _FUSED else {}) | dict(more)
    build: Any = optimizer_kind(name)
    try:
        optimizer: torch.optim.Optimizer = build(list(parameters.values()), **arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidSetting(f"learner.options: torch.optim.{name} with {arguments}: {error}") from error
    return optimizer


def moments(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return the state of ``optimizer`` as tensors named ``optimizer.PARAMETER.MOMENT``."""
    return {
        f"optimizer.{name}.{moment}": tensor.contiguous()  # safetensors requires it
        for name, parameter in parameters.items()
        for moment, tensor in optimizer.state.get(parameter, {}).items()
        if tensor is not None
    }


def load_moments(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """Copy what `moments` returned into ``optimizer``, in the memory format of each parameter."""
    optimizer.state.clear()
    for key, saved in tensors.items():
        if key.startswith("optimizer."):
            name, _, moment = key.removeprefix("optimizer.").rpartition(".")
            if name not in parameters:
                continue  # of another optimizer of the same learner
            parameter = parameters[name]
            like = parameter if saved.shape == parameter.shape else saved
            own = torch.empty_like(like, dtype=saved.dtype, device=parameter.device).copy_(saved)
            optimizer.state[parameter][moment] = own
