"""The networks that gradient-descent learners train: built-in ones by name, or a user's ``module:factory``.

A network takes float32 images of shape [B, C, H, W], −1 … 1, in any memory format, or standardised vectors,
float32 of shape [B, F], and returns float32 scores of shape [B, K]. `lethe.learners.gradient.network_check`
checks that a user's network does.
"""

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lethe.errors import InvalidSetting
from lethe.wire import Layout

__all__ = [
    "BACKBONES",
    "MIN_PIXELS",
    "Backbone",
    "as_floats",
    "blank",
    "build",
    "check_same",
    "mlp",
    "small_cnn",
]

Backbone = Callable[[Layout], nn.Module]
"""Returns a network for samples of a layout; its weights come from torch's generator, which `build` seeds."""
SHOWN: Final = 3
"""Number of differences that an error names."""
MIN_PIXELS: Final = 8
"""Least pixels per side: fewer leave nothing after two poolings."""


def small_cnn(layout: Layout) -> nn.Module:
    """Return a network of two convolutions and two fully connected layers.

    The convolutions are in channels-last format, in which a step takes two thirds of the time on a CPU.
    Pooling before the ReLU gives the same maps as pooling after it, for a quarter of the work.

    Raises ValueError for vectors, and for images of fewer than `MIN_PIXELS` a side.
    """
    if layout.features is not None:
        raise ValueError(
            "small-cnn takes images, and the samples are vectors (sample.features):"
            " learner.options.backbone is mlp for these, or a module:factory"
        )
    if min(layout.height, layout.width) < MIN_PIXELS:
        raise ValueError(
            f"images of {layout.height}×{layout.width}: the small CNN takes {MIN_PIXELS} a side or more"
        )
    pooled = 64 * (layout.height // 4) * (layout.width // 4)
    model = nn.Sequential(
        nn.Conv2d(layout.channels, 32, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(pooled, 128),
        nn.ReLU(),
        nn.Linear(128, layout.classes),
    )
    return model.to(memory_format=torch.channels_last)


def mlp(layout: Layout) -> nn.Module:
    """Return a network of two hidden layers of 256 units each."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(layout.size, 256),
        nn.ReLU(),
        nn.Linear(256, 256),
        nn.ReLU(),
        nn.Linear(256, layout.classes),
    )


def _by_layout(layout: Layout) -> nn.Module:
    return (small_cnn if layout.features is None else mlp)(layout)


BACKBONES: Final[dict[str, Backbone]] = {"auto": _by_layout, "small-cnn": small_cnn, "mlp": mlp}
"""The built-in networks, by the name that the option ``backbone`` takes."""


def build(name: str, layout: Layout, seed: int) -> nn.Module:
    """Return the network ``name``, or that of a user's ``module:factory``, drawn from ``seed`` alone.

    Raises InvalidSetting when it does not exist or the factory fails, ValueError when a built-in one cannot
    take the samples.
    """
    with torch.random.fork_rng(devices=[]):  # the global generator is left as it was
        torch.manual_seed(seed)
        if name in BACKBONES:
            return BACKBONES[name](layout)
        return _built_by_user(name, layout)


def check_same(name: str, model: nn.Module, kept: Mapping[str, Tensor]) -> None:
    """Raise InvalidSetting, naming the differences, unless ``kept`` are weights of the network ``model``.

    A ``module:factory`` may return another network than when the checkpoint was written.
    """
    now = {part: _shown(tensor) for part, tensor in model.state_dict().items()}
    was = {part: _shown(tensor) for part, tensor in kept.items()}
    changed = [
        f"{part} was {was.get(part, 'not there')}, is {now.get(part, 'not there')}"
        for part in was | now
        if was.get(part) != now.get(part)
    ]
    if changed:
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise InvalidSetting(
            f"learner.options.backbone: {name} is not the network of the checkpoint: "
            f"{'; '.join(changed[:SHOWN])}{more}; --fresh starts over"
        )


def _shown(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _built_by_user(name: str, layout: Layout) -> nn.Module:
    module, _, factory = name.partition(":")
    if not module or not factory:
        raise InvalidSetting(
            f"learner.options.backbone: {name!r} is none of {', '.join(BACKBONES)} and no module:factory"
        )
    try:
        with _working_folder():
            model = getattr(importlib.import_module(module), factory)(layout)
        if isinstance(model, nn.Module) and _lazy(model):
            _initialise(model, layout)
    except Exception as error:  # the user's code may raise anything
        missing = isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]
        where = f"; it is neither in {Path.cwd()} nor installed" if missing else ""
        raise InvalidSetting(
            f"learner.options.backbone: {name}: {type(error).__name__}: {error}{where}"
        ) from error
    if not isinstance(model, nn.Module):
        raise InvalidSetting(
            f"learner.options.backbone: {name} returned {type(model).__name__}, no nn.Module"
        )
    if lazy := _lazy(model):
        raise InvalidSetting(
            f"learner.options.backbone: {name}: {', '.join(lazy)} of it have no shape yet, and a pass of "
            "two images gives them none"
        )
    return model


@contextmanager
def _working_folder() -> Iterator[None]:
    """Let modules of the working folder be imported, behind those that are installed."""
    folder = str(Path.cwd())
    if folder in sys.path or "" in sys.path:
        yield
        return
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _lazy(model: nn.Module) -> list[str]:
    """Return the names of parameters and buffers without a shape yet."""
    return [name for name, t in [*model.named_parameters(), *model.named_buffers()] if is_lazy(t)]


def _initialise(model: nn.Module, layout: Layout) -> None:
    """Initialise lazy layers from the seed, before the first batch."""
    learning = [module for module in model.modules() if module.training]
    model.eval()
    with torch.no_grad():
        model(blank(layout, 2))
    for module in learning:
        module.training = True


def blank(layout: Layout, count: int) -> Tensor:
    """Return so many blank samples as a network takes them."""
    if layout.features is not None:
        return torch.zeros(count, *layout.shape)
    return as_floats(torch.zeros(count, *layout.shape, dtype=torch.uint8), torch.device("cpu"))


def as_floats(x_BCHW: Tensor, device: torch.device) -> Tensor:
    """Return uint8 images as new float32 images in −1 … 1, on ``device``."""
    x = x_BCHW.to(device)
    return x.to(torch.float32, memory_format=torch.channels_last).mul_(2 / 255).sub_(1)
