"""Checks, before a run starts, that a user's network can be trained.

Shapes: B batch, C channels, H height, W width, K classes.
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lethe.learners.gradient.backbones import as_floats
from lethe.wire import Layout

__all__ = ["NetworkTraits", "UnsuitableNetwork", "batch_norms", "check_network", "frozen_batch_norms"]

_KEPT: Final = frozenset(
    {
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
    }
)
"""Types of tensor that a checkpoint can store."""
_LOST: Final = "a restart would lose it"


class UnsuitableNetwork(ValueError):
    """Raised for a network that cannot be trained, with the reason."""


@dataclass(frozen=True, slots=True)
class NetworkTraits:
    """Properties of a network that a learner has to respect."""

    modes_differ: bool = False
    """Its scores may differ between training and eval mode, as with dropout and batch normalisation."""
    random: bool = False
    """It draws random numbers from torch in training mode."""
    holds_single: bool = False
    """With a batch of one, its batch norms must be in eval mode, because one value has no variance."""
    updates: bool = False
    """Training changes buffers of it, such as the running statistics of batch norms."""


def batch_norms(model: nn.Module) -> list[str]:
    """Return the names of the batch norms that are in training mode."""
    held = _normalisations(model)
    return [name for name, module in model.named_modules() if module in held]


@contextmanager
def frozen_batch_norms(model: nn.Module) -> Iterator[None]:
    """Put the batch norms of ``model`` in eval mode, in which they use their running statistics."""
    held = _normalisations(model)
    try:
        for module in held:
            module.training = False
        yield
    finally:
        for module in held:
            module.training = True


def check_network(model: nn.Module, layout: Layout, batch_size: int, device: torch.device) -> NetworkTraits:
    """Try ``model``, which is on ``device``, on batches of one, two and ``batch_size`` random samples.

    Copies of it are run in both modes; the global random number generators are left as they were. Raises
    UnsuitableNetwork, with the reason, when it cannot be trained, predict, or be stored in a checkpoint.
    """
    _check_parts(model)
    with _same_random_numbers(device), torch.backends.cudnn.flags(deterministic=True):
        return _NetworkCheck(model, layout, device).traits([1, 2, max(2, batch_size)])


def _check_parts(model: nn.Module) -> None:
    """Raise UnsuitableNetwork unless its parameters are float32 and a checkpoint can hold its state."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trained:
        raise UnsuitableNetwork("it has no parameter that requires a gradient: there is nothing to train")
    for name, parameter in trained.items():
        if parameter.dtype != torch.float32:
            raise UnsuitableNetwork(
                f"its parameter {name} is {_type(parameter)}; what is trained is float32, as its input is"
            )
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, Tensor):
            raise UnsuitableNetwork(
                f"its state_dict holds {name}, {type(tensor).__name__}: a checkpoint holds tensors"
            )
        if tensor.dtype not in _KEPT:
            raise UnsuitableNetwork(
                f"its state_dict holds {name}, which is {_type(tensor)}: a checkpoint cannot hold it"
            )


class _NetworkCheck:
    """Runs copies of a network on random images."""

    def __init__(self, model: nn.Module, layout: Layout, device: torch.device) -> None:
        self._layout, self._device = layout, device
        self._pristine = _copied(model, "before it is trained")
        self._run = _copied(model, "before it is trained")
        self._training = [module for module in self._run.modules() if module.training]

    def traits(self, sizes: list[int]) -> NetworkTraits:
        """Return the traits of the network; raises UnsuitableNetwork."""
        self._predict(sizes)
        changed, drew, single = self._learn(sizes)
        self._check_restart(sizes[-1])
        differ = changed or drew or self._modes_differ(sizes[-1]) or _mentions_training(self._pristine)
        return NetworkTraits(differ, drew, single, changed)

    def _predict(self, sizes: list[int]) -> None:
        """Raise UnsuitableNetwork unless eval mode gives scores, draws nothing and changes nothing."""
        self._run.eval()
        before, numbers = _frozen(self._run), _random_numbers(self._device)
        with torch.inference_mode():
            for size in sizes:
                self._scores(size, "eval")
        self._resume_training()
        changed = _changed(before, _frozen(self._run))
        if changed:
            raise UnsuitableNetwork(
                f"in eval mode it changes {', '.join(changed)}: a prediction must change nothing"
            )
        if numbers != _random_numbers(self._device):
            raise UnsuitableNetwork(
                "in eval mode it draws random numbers: the same image would get different answers"
            )

    def _learn(self, sizes: list[int]) -> tuple[bool, bool, bool]:
        """Return whether training mode changes state, draws random numbers, and needs frozen batch norms.

        Raises UnsuitableNetwork.
        """
        lasting = self._run.state_dict().keys()
        before, numbers, others = _frozen(self._run), _random_numbers(self._device), _others_numbers()
        single = False
        for size in sizes:
            try:
                scores_BK = self._scores(size, "training")
            except UnsuitableNetwork:
                if size > 1 or not _normalisations(self._run):
                    raise
                single = True
                with frozen_batch_norms(self._run):
                    scores_BK = self._scores(size, "training")
            self._check_gradients(scores_BK)
        changed = _changed(before, _frozen(self._run))
        lost = [name for name in changed if name not in lasting]
        if lost:
            raise UnsuitableNetwork(
                f"training changes {', '.join(lost)}, which its state_dict lacks: {_LOST}"
            )
        if others != _others_numbers():
            raise UnsuitableNetwork(
                "it draws random numbers of Python or NumPy, which no checkpoint holds: draw them with torch"
            )
        return bool(changed), numbers != _random_numbers(self._device), single

    def _check_gradients(self, scores_BK: Tensor) -> None:
        trained = [p for p in self._run.parameters() if p.requires_grad]
        label_B = torch.arange(len(scores_BK), device=self._device) % self._layout.classes
        loss = nn.functional.cross_entropy(scores_BK, label_B)
        moved = torch.autograd.grad(loss, trained, allow_unused=True) if loss.requires_grad else ()
        if all(gradient is None for gradient in moved):
            raise UnsuitableNetwork("no parameter that requires a gradient affects its scores")

    def _check_restart(self, size: int) -> None:
        """Raise UnsuitableNetwork unless a fresh copy with the trained state_dict gives the same scores."""
        _copied(self._run, "once it was trained")
        restarted = _copied(self._pristine, "before it is trained")
        with torch.no_grad():
            for name, tensor in restarted.state_dict().items():
                tensor.copy_(self._run.state_dict()[name])
        for training in (False, True):
            one, other = (self._answer(network, size, training) for network in (self._run, restarted))
            if not torch.allclose(one, other, rtol=1e-3, atol=1e-4):
                raise UnsuitableNetwork(
                    f"what it has seen changes its scores, and is not all in its state_dict: {_LOST}"
                )

    def _answer(self, network: nn.Module, size: int, training: bool) -> Tensor:
        torch.manual_seed(0)
        learning = [module for module in network.modules() if module.training]
        if not training:
            network.eval()
        with torch.no_grad():
            scores_BK: Tensor = network(self._images(size))
        for module in learning:
            module.training = True
        return scores_BK

    def _modes_differ(self, size: int) -> bool:
        network = _copied(self._pristine, "before it is trained")
        return not torch.equal(self._answer(network, size, False), self._answer(network, size, True))

    def _resume_training(self) -> None:
        for module in self._training:
            module.training = True

    def _scores(self, size: int, mode: str) -> Tensor:
        x_BCHW = self._images(size)
        given_BCHW = x_BCHW.clone()
        where = f"in {mode} mode, with a batch of {size}"
        try:
            scores_BK = self._run(x_BCHW)
        except Exception as error:  # the user's code may raise anything
            raise UnsuitableNetwork(f"{where}, it raises {type(error).__name__}: {error}") from error
        if not isinstance(scores_BK, Tensor):
            raise UnsuitableNetwork(
                f"{where}, it returns {type(scores_BK).__name__}, not one tensor of scores"
            )
        expected = (size, self._layout.classes)
        if scores_BK.shape != expected:
            raise UnsuitableNetwork(
                f"{where}, its scores have the shape {tuple(scores_BK.shape)}, not {expected}: "
                "a row for each image, a column for each class"
            )
        if scores_BK.dtype != torch.float32:
            raise UnsuitableNetwork(f"{where}, its scores are {_type(scores_BK)}, not float32")
        if not bool(scores_BK.isfinite().all()):
            raise UnsuitableNetwork(f"{where}, its scores are not finite")
        if not torch.equal(x_BCHW, given_BCHW):
            raise UnsuitableNetwork(f"{where}, it writes into the images that it is given")
        return scores_BK

    def _images(self, size: int) -> Tensor:
        drawn = torch.Generator().manual_seed(size)
        shape = (size, *self._layout.shape)
        if self._layout.features is not None:
            return torch.randn(shape, generator=drawn).to(self._device)
        return as_floats(torch.randint(256, shape, dtype=torch.uint8, generator=drawn), self._device)


def _copied(model: nn.Module, when: str) -> nn.Module:
    """Return a copy, which every predictor needs."""
    try:
        return deepcopy(model)
    except Exception as error:  # the user's code may raise anything
        raise UnsuitableNetwork(f"it cannot be copied {when}, {type(error).__name__}: {error}") from error


def _normalisations(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]


def _mentions_training(model: nn.Module) -> bool:
    """Return whether code outside torch reads ``training``: its effect may not show in a check."""
    kinds = {kind for module in model.modules() for kind in type(module).__mro__}
    return any(
        _asks_for_mode(function.__code__)
        for kind in kinds
        if not kind.__module__.startswith("torch.")
        for function in vars(kind).values()
        if isinstance(function, FunctionType)
    )


def _asks_for_mode(code: CodeType) -> bool:
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return "training" in code.co_names or any(map(_asks_for_mode, inner))


def _frozen(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of all parameters and buffers, including those that its state_dict lacks."""
    return {name: t.detach().clone() for name, t in [*model.named_parameters(), *model.named_buffers()]}


def _changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[str]:
    return [
        name
        for name, tensor in before.items()
        if name not in after
        or after[name].shape != tensor.shape
        or not torch.equal(after[name].nan_to_num(), tensor.nan_to_num())
    ]


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _random_numbers(device: torch.device) -> bytes:
    """Return the states of the torch generators that a network may draw from."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return b"".join(state.numpy().tobytes() for state in states)


def _others_numbers() -> object:
    """Return the states of the generators that no checkpoint stores."""
    return random.getstate(), repr(np.random.get_state())


@contextmanager
def _same_random_numbers(device: torch.device) -> Iterator[None]:
    python, numpys = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpys)
