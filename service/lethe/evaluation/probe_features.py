"""Keeps the features of probe images, which a learner on fixed features computes once.

Shapes: N images, C channels, H height, W width, B images of a chunk, D features.
"""

from collections.abc import Iterator
from typing import Final
from weakref import ref

import torch
from torch import Tensor

from lethe.learners.fixed_features import FixedFeatures

__all__ = ["CHUNK", "ProbeFeatures"]

CHUNK: Final = 500
"""Images predicted at once; bounds the memory of an evaluation."""


class ProbeFeatures:
    """Features of the images of probes, for one learner, in up to ``limit`` bytes.

    A set of images that no longer fits is computed each time. Nothing is written to a disk.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: dict[tuple[str, bool], Tensor] = {}
        self._learner: ref[FixedFeatures] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the features that are kept."""
        return sum(features_ND.nbytes for features_ND in self._kept.values())

    def chunks(self, learner: FixedFeatures, probe: str, full: bool, x_NCHW: Tensor) -> Iterator[Tensor]:
        """Yield features of `CHUNK` images after the other, of shape [B, D].

        ``x_NCHW`` are the same images for every call with the same ``probe`` and ``full``.
        """
        if self._learner is None or self._learner() is not learner:
            self._kept, self._learner = {}, ref(learner)
        kept_ND = self._kept.get((probe, full))
        if kept_ND is not None:
            yield from torch.split(kept_ND, CHUNK)
            return
        computed: list[Tensor] = []
        parts = torch.split(x_NCHW, CHUNK)
        for x_BCHW in parts:
            features_BD = learner.features(x_BCHW)
            if self.nbytes + features_BD[0].nbytes * len(x_NCHW) <= self._limit:
                computed.append(features_BD)
            if len(computed) == len(parts):
                self._kept[probe, full] = torch.cat(computed)
            yield features_BD
