"""The networks that gradient-descent learners train."""

from typing import Final

import torch
from torch import nn

from service.wire import Layout

__all__ = ["MIN_PIXELS", "small_cnn"]

MIN_PIXELS: Final = 8
"""Fewer pixels than this a side leave nothing after two poolings."""


def small_cnn(layout: Layout, seed: int) -> nn.Sequential:
    """Return two convolutions and two full layers, drawn from ``seed`` alone.

    The network takes float32 images of shape [B, C, H, W], in any memory format, and returns
    scores of shape [B, K]. Its convolutions are in channels-last format: on a CPU a step takes
    two thirds of the time. Pooling before the ReLU gives the same maps as pooling after it, for
    a quarter of the work.

    Raises ValueError for images of fewer than `MIN_PIXELS` a side.
    """
    if min(layout.height, layout.width) < MIN_PIXELS:
        raise ValueError(
            f"images of {layout.height}×{layout.width}: the small CNN takes {MIN_PIXELS} a side or more"
        )
    pooled = 64 * (layout.height // 4) * (layout.width // 4)
    with torch.random.fork_rng(devices=[]):  # nobody else's random numbers change
        torch.manual_seed(seed)
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
