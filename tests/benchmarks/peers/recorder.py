"""Records the batches of a stream, for libraries that need each segment as a data set."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from lethe.experiments.bench.offline_run import OfflineRun, run_learner_offline
from lethe.learners.base import Learned, Learner, LearnerContext, Retention
from lethe.learners.state import State
from lethe.wire import Layout

__all__ = ["Segment", "record"]


@dataclass
class Segment:
    """The batches between two boundaries: x uint8 [B, C, H, W] and y int64 [B] of each."""

    x: list[Tensor] = field(default_factory=list)
    y: list[Tensor] = field(default_factory=list)


def record(offline: OfflineRun) -> list[Segment]:
    """Return the batches of an offline run with given boundaries, in order, split at the boundaries."""
    recorder = _Recorder(LearnerContext(Layout(), offline.seed))
    run_learner_offline(recorder, offline)
    return recorder.segments


class _Recorder(Learner):
    """Learns nothing and stores the whole stream, which the contract forbids."""

    name: ClassVar[str] = "recorder"
    retains: ClassVar[Retention] = Retention.SAMPLES
    summary: ClassVar[str] = "keeps the whole stream"
    paper: ClassVar[str] = "none"

    def __init__(self, context: LearnerContext) -> None:
        self._classes = context.layout.classes
        self.segments = [Segment()]

    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        self.segments[-1].x.append(x_BCHW.clone())
        self.segments[-1].y.append(y_B.clone())
        return Learned(torch.zeros_like(y_B), None)

    def boundary(self) -> None:
        self.segments.append(Segment())

    def predict_proba(self, x_BCHW: Tensor) -> Tensor:
        return torch.full((len(x_BCHW), self._classes), 1 / self._classes)

    def state(self) -> State:
        return State({}, {})

    def load_state(self, state: State) -> None:
        raise NotImplementedError("what was recorded is not taken up again")
