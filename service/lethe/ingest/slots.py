"""Slots: shared memory that holds the samples of batches.

The reader process fills a slot; the process that learns reads it and overwrites it with zeros. The memory
has no name in the file system, so nothing of it is left when both processes have ended, however they did.

Shapes: S slots, B samples a batch, C channels, H height, W width. Samples that are vectors have F features in
place of C, H and W.
"""

import ctypes
import os
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, Final

import numpy as np

from lethe.errors import InvalidSetting
from lethe.settings import BatchSettings
from lethe.wire import UNLABELLED, Labels, Layout, Pixels, Sample

__all__ = ["INCOMPLETE_SHARE", "MEMORY", "Slots", "require_memory"]

MEMORY: Final = Path("/dev/shm")  # noqa: S108 - nothing is put there by name
"""Linux's shared memory. When it is full, Python uses a folder on a disk instead."""

INCOMPLETE_SHARE: Final = 0.5
"""Share of the residency after which an incomplete batch is discarded, to be read again."""


class Slots:
    """``settings.slots`` batches in memory that two processes share.

    Picklable only while a process is being spawned. Raises InvalidSetting when there is not enough
    shared memory: pixels on a disk could not be overwritten reliably.
    """

    def __init__(self, layout: Layout, settings: BatchSettings, context: BaseContext) -> None:
        self._shape = (settings.slots, settings.size, *layout.shape)
        samples = settings.slots * settings.size
        require_memory(samples * layout.nbytes, "batch.slots times batch.size: their pixels")
        self._pixels = context.RawArray(
            ctypes.c_uint8 if layout.features is None else ctypes.c_float, samples * layout.size
        )
        self._labels = context.RawArray(ctypes.c_int64, samples)
        self._counts = context.RawArray(ctypes.c_int64, 2 * settings.slots + 1)  # the last one is `queued`
        self._view()

    def _view(self) -> None:
        count, size = self._shape[:2]
        as_array = np.ctypeslib.as_array
        self.x_SBCHW: Pixels = as_array(self._pixels).reshape(self._shape)
        self.y_SB: Labels = as_array(self._labels).reshape(count, size)
        counts: Labels = as_array(self._counts)
        slots = self._shape[0]
        self._count_S, self._unlabelled_S = counts[:slots], counts[slots:-1]
        self._queued = counts[-1:]

    def __getstate__(self) -> dict[str, Any]:
        return {
            "_shape": self._shape,
            "_pixels": self._pixels,
            "_labels": self._labels,
            "_counts": self._counts,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._view()

    def put(self, slot: int, index: int, sample: Sample) -> None:
        """Copy one sample into a slot."""
        self.x_SBCHW[slot, index] = sample.pixels
        self.y_SB[slot, index] = sample.label
        self._count_S[slot] = index + 1

    def put_unlabelled(self, slot: int, index: int, sample: Sample) -> None:
        """Copy the sample without a label that is number ``index`` among them; they fill a slot from its end.

        So the samples with a label, and those without, are each in successive places.
        """
        self.x_SBCHW[slot, -1 - index] = sample.pixels
        self.y_SB[slot, -1 - index] = UNLABELLED
        self._unlabelled_S[slot] = index + 1

    def discard(self, slot: int) -> int:
        """Overwrite a slot's pixels and labels with zeros; return the number of samples that had a label."""
        used, unlabelled = int(self._count_S[slot]), int(self._unlabelled_S[slot])
        for places in (slice(used), slice(len(self.y_SB[slot]) - unlabelled, None)):
            self.x_SBCHW[slot, places] = 0
            self.y_SB[slot, places] = 0
        self._count_S[slot] = self._unlabelled_S[slot] = 0
        return used

    def discard_all(self) -> None:
        """Overwrite every slot, complete or not."""
        for array in (self.x_SBCHW, self.y_SB, self._count_S, self._unlabelled_S, self._queued):
            array.fill(0)

    @property
    def queued(self) -> int:
        """Records that were read and wait, encoded, for a slot."""
        return int(self._queued[0])

    @queued.setter
    def queued(self, records: int) -> None:
        self._queued[0] = records

    @property
    def resident(self) -> int:
        """Samples in slots and records that wait for one."""
        return int(self._count_S.sum() + self._unlabelled_S.sum()) + self.queued


def require_memory(size: int, what: str) -> None:
    """Raise InvalidSetting, beginning with ``what``, without ``size`` bytes of shared memory."""
    if not MEMORY.is_dir():
        return
    stat = os.statvfs(MEMORY)
    free = stat.f_bavail * stat.f_frsize
    if size > free:
        raise InvalidSetting(f"{what} need {size:,} bytes of shared memory, and {MEMORY} has {free:,}")
