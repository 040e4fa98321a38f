"""Places: shared memory for decoded images that wait for their turn to be copied into a slot.

Shapes: P places, C channels, H height, W width.
"""

import ctypes
from multiprocessing.context import BaseContext
from typing import Any, Final

import numpy as np

from lethe.ingest.slots import require_memory
from lethe.settings import BatchSettings
from lethe.wire import Labels, Layout, Pixels

__all__ = ["Places"]

PER_DECODER: Final = 32
"""Images that a decoder may have in hand or waiting: enough to work on while the reader polls."""


class Places:
    """Memory for images, shared by the reader and its decoders, and never for more than slots hold.

    Picklable only while a process is being spawned. Raises InvalidSetting when there is not enough shared
    memory.
    """

    def __init__(self, layout: Layout, settings: BatchSettings, context: BaseContext) -> None:
        self.count = min(PER_DECODER * settings.readers, settings.slots * settings.size)
        require_memory(self.count * layout.nbytes, "batch.readers: the images that they decode")
        self._shape = (self.count, *layout.shape)
        self._pixels = context.RawArray(ctypes.c_uint8, self.count * layout.size)
        self._epochs = context.RawArray(ctypes.c_int64, 1)
        self._view()

    def _view(self) -> None:
        as_array = np.ctypeslib.as_array
        self.x_PCHW: Pixels = as_array(self._pixels).reshape(self._shape)
        self._epoch: Labels = as_array(self._epochs)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "count": self.count,
            "_shape": self._shape,
            "_pixels": self._pixels,
            "_epochs": self._epochs,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._view()

    @property
    def epoch(self) -> int:
        """Counts how often everything was discarded; a decoder skips what was given before."""
        return int(self._epoch[0])

    def begin_epoch(self) -> None:
        """Let decoders skip everything that they were given so far."""
        self._epoch[0] += 1

    def discard(self, place: int) -> None:
        """Overwrite one image with zeros."""
        self.x_PCHW[place] = 0

    def discard_all(self) -> None:
        """Overwrite every image with zeros."""
        self.x_PCHW.fill(0)
