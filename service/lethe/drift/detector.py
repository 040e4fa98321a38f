"""Detects boundaries from the features, the error and the loss of the samples of a stream."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

import numpy as np
from pydantic import TypeAdapter

from lethe.drift.features import FeatureSums
from lethe.drift.levels import LevelState, error_level, loss_level
from lethe.drift.reference import LEAST_DEVIATION, FeatureReference
from lethe.drift.regimes import ASSIGNED_AFTER, Regimes
from lethe.drift.shift_statistic import BLOCK, SETTLED, ShiftTest, ShiftTestState, Split

if TYPE_CHECKING:
    from pydantic import JsonValue

__all__ = ["SETTLED", "BoundaryDetector", "Detection"]

_FEATURES: Final = 15.0
"""Threshold of the features; MNIST or Fashion-MNIST in random order reached 6.7 in 1.8 million samples."""
_LEVELS: Final = 40.0
"""Threshold of error and loss."""


@dataclass(frozen=True, slots=True)
class Detection:
    """A boundary that was detected in a batch."""

    signal: str
    """What detected it: "features", "error" or "loss"."""
    late: int
    """Samples of the batch that follow the one with which the evidence was sufficient."""


@dataclass(slots=True)
class _State:
    """The state of a detector; its fields are its JSON."""

    features: ShiftTestState = field(default_factory=ShiftTestState)
    rest: FeatureReference = field(default_factory=FeatureReference)
    """The images after the last block, too few for one."""
    error: LevelState = field(default_factory=LevelState)
    loss: LevelState = field(default_factory=LevelState)
    regimes: Regimes = field(default_factory=Regimes)
    regime: int | None = None


_STATE: Final = TypeAdapter(_State)


class BoundaryDetector:
    """Detects boundaries from statistics of each batch, in constant time and memory, without segment names.

    The features of the images, the prequential error and the loss are each tested for a shift of their
    mean, in blocks of 64 samples, independently of the batch size (`ShiftTest`). The features detect new
    images whatever the learner predicts; error and loss also detect labels that change their meaning. After
    a boundary, all statistics restart at the shift, except the reference of each regime, by which
    a returning regime is recognised. ``threshold`` scales the evidence that a boundary needs.
    """

    def __init__(self, threshold: float = 1.0) -> None:
        self._features = ShiftTest(threshold * _FEATURES, LEAST_DEVIATION**2)
        self._rest = FeatureReference()
        self._error, self._loss = error_level(threshold * _LEVELS), loss_level(threshold * _LEVELS)
        self._regimes = Regimes()
        self._regime: int | None = None

    @property
    def regime(self) -> int | None:
        """Number of the current regime; None until enough samples followed the boundary."""
        return self._regime

    @property
    def met(self) -> int:
        """Number of regimes so far."""
        return self._regimes.met

    def update(self, features: FeatureSums, correct: int, loss: float | None) -> Detection | None:
        """Add a batch, of which ``correct`` samples were predicted correctly before it was learned.

        Return the boundary that was detected, the last one of several; None without a boundary.
        """
        size, detection = features.count, None
        levels = {"error": self._error, "loss": self._loss}
        ended = [self._error.add(size, size - correct), self._loss.add(size, loss and size * loss)]
        for end, block in self._blocks(features):
            self._features.add(block.count, np.array(block.sums), np.array(block.squares))
            if (split := self._features.find()) is not None:
                self._begin(split)
                detection = Detection("features", size - end)
            if self._regime is None and self._features.count >= ASSIGNED_AFTER:
                usual = self._features.before(self._features.end)
                self._regime = self._regimes.recognise(usual)
        for (name, level), new in zip(levels.items(), ended, strict=True):
            if new and detection is None and (split := level.blocks.find()) is not None:
                self._begin(split)
                detection = Detection(name, 0)
        return detection

    def to_json(self) -> "JsonValue":
        """Return the state as plain JSON; floats survive `json` bit for bit."""
        state = _State(
            self._features.state(),
            self._rest,
            self._error.state(),
            self._loss.state(),
            self._regimes,
            self._regime,
        )
        return cast("JsonValue", _STATE.dump_python(state, mode="json"))

    @classmethod
    def from_json(cls, value: "JsonValue", threshold: float = 1.0) -> "BoundaryDetector":
        """Return a detector with the state that `to_json` returned; a new one for None."""
        detector = cls(threshold)
        if isinstance(value, dict):
            state = _STATE.validate_python(_converted(value) if "alarms" in value else value)
            detector._rest = state.rest
            detector._features.load_state(state.features)
            detector._error.load_state(state.error)
            detector._loss.load_state(state.loss)
            detector._regimes, detector._regime = state.regimes, state.regime
        return detector

    def _blocks(self, features: FeatureSums) -> Iterator[tuple[int, FeatureReference]]:
        """Yield the full blocks, each with its end in the batch; the rest waits for the next batch."""
        begin = 0
        while begin < features.count:
            end = min(features.count, begin + BLOCK - self._rest.count)
            sums_F, squares_F = features.between(begin, end)
            self._rest.add(FeatureReference(end - begin, sums_F.tolist(), squares_F.tolist()))
            begin = end
            if self._rest.count == BLOCK:
                block, self._rest = self._rest, FeatureReference()
                yield end, block

    def _begin(self, split: Split) -> None:
        """Restart after the split, and store the reference of the regime before it."""
        usual = self._features.before(split.before)
        if self._regime is not None and usual.count:
            self._regimes.left(self._regime, usual)
        self._regime = None
        if self._features.end < split.after:
            self._features.skip(self._rest.count)
            self._rest = FeatureReference()
        self._features.restart(split.after)
        self._error.restart(split.after)
        self._loss.restart(split.after)


def _converted(value: "Mapping[str, JsonValue]") -> "Mapping[str, JsonValue]":
    """Convert the state in an older checkpoint, which holds a single sum as the baseline."""
    usual = TypeAdapter(FeatureReference).validate_python(value["features"])
    row: list[JsonValue] = [usual.count, 0, *usual.sums, *usual.squares, *[0.0] * len(usual.sums)]
    level: JsonValue = {"blocks": {"end": usual.count}}
    return {
        "features": {"end": usual.count, "rows": [row] if usual.count else []},
        "error": level,
        "loss": level,
        "regimes": value["regimes"],
        "regime": value["regime"],
    }
