"""The networks that gradient-descent learners train: ours by name, and a user's ``module:factory``.

A network takes float32 images of shape [B, C, H, W], −1 … 1, in any memory format, and returns
scores of shape [B, K].
"""

import importlib
from collections.abc import Callable
from typing import Final

import torch
from torch import nn

from service.errors import InvalidSetting
from service.wire import Layout

__all__ = ["BACKBONES", "MIN_PIXELS", "Backbone", "build", "mlp", "small_cnn"]

Backbone = Callable[[Layout], nn.Module]
"""Returns a network for images of that layout; it draws from torch's generator, which `build` seeds."""
MIN_PIXELS: Final = 8
"""Fewer pixels than this a side leave nothing after two poolings."""


def small_cnn(layout: Layout) -> nn.Module:
    """Return two convolutions and two full layers.

    The convolutions are in channels-last format: on a CPU a step takes two thirds of the time.
    Pooling before the ReLU gives the same maps as pooling after it, for a quarter of the work.

    Raises ValueError for images of fewer than `MIN_PIXELS` a side.
    """
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
    """Return two hidden layers of 256 units."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(layout.channels * layout.height * layout.width, 256),
        nn.ReLU(),
        nn.Linear(256, 256),
        nn.ReLU(),
        nn.Linear(256, layout.classes),
    )


BACKBONES: Final[dict[str, Backbone]] = {"small-cnn": small_cnn, "mlp": mlp}
"""Our networks by the name that the option ``backbone`` calls them."""


def build(name: str, layout: Layout, seed: int) -> nn.Module:
    """Return the network ``name``, or what a user's ``module:factory`` makes, drawn from ``seed`` alone.

    Raises InvalidSetting when there is none or the factory fails, ValueError when ours cannot take
    the images.
    """
    with torch.random.fork_rng(devices=[]):  # nobody else's random numbers change
        torch.manual_seed(seed)
        if name in BACKBONES:
            return BACKBONES[name](layout)
        return _built_by_user(name, layout)


def _built_by_user(name: str, layout: Layout) -> nn.Module:
    module, _, factory = name.partition(":")
    if not module or not factory:
        raise InvalidSetting(
            f"learner.options.backbone: {name!r} is none of {', '.join(BACKBONES)} and no module:factory"
        )
    try:
        model = getattr(importlib.import_module(module), factory)(layout)
    except Exception as error:  # whatever the user's code raises
        raise InvalidSetting(f"learner.options.backbone: {name}: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise InvalidSetting(
            f"learner.options.backbone: {name} returned {type(model).__name__}, no nn.Module"
        )
    return model
