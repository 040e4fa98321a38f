"""Which samples of the old probe were forgotten, and as what they are seen now.

Shapes: P points of the path, N images, K classes.
"""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ForgettingEvents", "confusion", "count_events"]


@dataclass(frozen=True, slots=True)
class ForgettingEvents:
    """Forgetting events of single samples: Toneva et al. 2019, An Empirical Study of Example Forgetting.

    An event is a sample that is predicted correctly at one point of the path and wrongly at the next.
    """

    samples: dict[int, int]
    """Number of samples by their number of events, of those that were predicted correctly at the first."""
    relearned: int
    """Samples with an event that are predicted correctly at the last point."""
    unknown: int
    """Samples that were predicted wrongly at the first point."""


def count_events(predicted_PN: Tensor, y_N: Tensor) -> ForgettingEvents:
    """Count the events of each sample over the points of a path."""
    correct_PN = predicted_PN == y_N
    events_N = (correct_PN[:-1] & ~correct_PN[1:]).sum(0)
    known_N = correct_PN[0]
    counts = Counter(events_N[known_N].tolist())
    return ForgettingEvents(
        samples={int(events): counts[events] for events in sorted(counts)},
        relearned=int((known_N & (events_N > 0) & correct_PN[-1]).sum()),
        unknown=int((~known_N).sum()),
    )


def confusion(predicted_N: Tensor, y_N: Tensor, classes: int) -> list[list[int]]:
    """Return the number of images by class (row) and predicted class (column)."""
    counts = torch.bincount(y_N * classes + predicted_N, minlength=classes * classes)
    rows: list[list[int]] = counts.reshape(classes, classes).tolist()
    return rows
