"""Withholds the labels of a share of a stream, and measures how well these samples are predicted."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from lethe.ingest.batcher import FilledBatch
from lethe.ingest.memory_feed import Malformed
from lethe.runtime.predictions import Predicted, Predictions
from lethe.wire import UNLABELLED, Sample

__all__ = ["WithheldLabels"]

_WITHHOLDS: Final = 2
"""Distinguishes the generator that chooses the samples from others with the same seed."""


class WithheldLabels(Predictions):
    """The labels of a random ``share`` of the samples, which the learner does not get."""

    def __init__(self, share: float, seed: int) -> None:
        self._share, self._random = share, np.random.default_rng((seed, _WITHHOLDS))
        self._labels = deque[int]()
        """Of the samples that are not predicted yet, in the order of the stream."""
        self.correct = 0
        """Correct predictions among the unlabelled samples of the latest batch."""

    def withhold(self, samples: Iterable[Sample | Malformed]) -> Iterator[Sample | Malformed]:
        """Yield ``samples``, of which the chosen ones have no label."""
        for sample in samples:
            if isinstance(sample, Malformed) or self._random.random() >= self._share:
                yield sample
            else:
                self._labels.append(sample.label)
                yield replace(sample, label=UNLABELLED)

    @property
    def wanted(self) -> bool:
        """True: every unlabelled sample is to be predicted."""
        return True

    def add(self, filled: FilledBatch, predicted: Predicted, samples: int) -> None:
        """Compare the predictions for the unlabelled samples, which are last and in reverse order."""
        del samples
        labels = [self._labels.popleft() for _ in range(filled.unlabelled)]
        predictions = reversed(predicted.class_B[filled.samples :].tolist())
        self.correct = sum(label == found for label, found in zip(labels, predictions, strict=True))
