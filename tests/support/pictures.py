"""Folders of pictures, as a user has them."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["picture", "write_pictures"]


def picture(colour: tuple[int, int, int], size: tuple[int, int], seed: int) -> Image.Image:
    """A noisy picture of one colour; ``size`` is height and width."""
    noise = np.random.default_rng(seed).integers(-20, 21, (*size, 3))
    return Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8))


def write_pictures(
    folder: Path,
    colours: Mapping[str, tuple[int, int, int]],
    count: int,
    sizes: Iterable[tuple[int, int]] = ((24, 32),),
    suffix: str = "jpg",
) -> Path:
    """Write ``count`` pictures of each label, in turn of these sizes, and return the folder."""
    every = list(sizes)
    for label, colour in colours.items():
        (folder / label).mkdir(parents=True)
        for number in range(count):
            image = picture(colour, every[number % len(every)], number)
            image.save(folder / label / f"{number}.{suffix}")
    return folder
