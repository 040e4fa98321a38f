"""The watch for boundaries: three alarms, on the error, the loss and the features of each batch."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from pydantic import TypeAdapter

from service.drift.alarm import Alarm, AlarmState
from service.drift.features import FeatureSums
from service.drift.reference import FeatureReference, LevelReference
from service.drift.regimes import TOLD_AFTER, Regimes

if TYPE_CHECKING:
    from pydantic import JsonValue

__all__ = ["SETTLED", "Watch"]

SETTLED: Final = 1000
"""Samples after a boundary, and at first, during which no other is looked for: nothing is usual yet."""

_FEATURES: Final = {"slack": 1.0, "threshold": 15.0, "cap": 20.0}  # one batch will do
_LEVELS: Final = {"slack": 1.0, "threshold": 20.0, "cap": 8.0}  # one odd batch will not
_LEAST_ERROR: Final = 0.01  # below one wrong answer in a hundred, chance is all there is
_LEAST_LOSS: Final = 1e-4  # a learner that is sure of everything has a loss of 0, which never varies


@dataclass(slots=True)
class _Memory:
    """All that a watch remembers; its fields are its JSON."""

    features: FeatureReference = field(default_factory=FeatureReference)
    error: LevelReference = field(default_factory=LevelReference)
    loss: LevelReference = field(default_factory=LevelReference)
    alarms: dict[str, AlarmState] = field(default_factory=dict)
    regimes: Regimes = field(default_factory=Regimes)
    regime: int | None = None


_MEMORY: Final = TypeAdapter(_Memory)


class Watch:
    """Finds boundaries without being told, from three numbers a batch: constant time and memory.

    The features of a batch are compared with those since the last boundary, its prequential
    error and loss with the recent ones; river's Page-Hinkley test adds up what exceeds chance. The
    features see a new subject whatever the learner makes of it; error and loss see labels that
    take on another meaning, too. After a boundary everything begins anew, but for what was usual in
    each regime: one that comes back is recognised. An alarm takes ``threshold`` times the usual
    evidence.
    """

    def __init__(self, threshold: float = 1.0) -> None:
        self._threshold = threshold
        self._begin(Regimes())

    @property
    def regime(self) -> int | None:
        """The number of the regime that goes on; None until enough of it was seen since the boundary."""
        return self._memory.regime

    @property
    def met(self) -> int:
        """How many regimes there were so far."""
        return self._memory.regimes.met

    def hears(self, features: FeatureSums, correct: int, loss: float | None) -> str | None:
        """Take in a batch that was predicted with ``correct`` right answers and then learned.

        Return which signal tells of a boundary, "features", "error" or "loss"; None if none does.
        """
        memory, size = self._memory, features.count
        surprises: dict[str, float] = {}
        if memory.features.count >= SETTLED:
            surprises["features"] = memory.features.surprise(features)
        error = 1 - correct / size
        if memory.error.count >= SETTLED:
            usual = max(memory.error.mean, _LEAST_ERROR)
            chance = math.sqrt(usual * (1 - min(usual, 1 - _LEAST_ERROR)) / size)
            surprises["error"] = memory.error.surprise(error, chance)
        if loss is not None and memory.loss.count >= SETTLED:
            least = max(0.1 * abs(memory.loss.mean), _LEAST_LOSS)
            surprises["loss"] = memory.loss.surprise(loss, least)
        told = [name for name, surprise in surprises.items() if self._alarms[name].hears(surprise)]
        if told:
            if memory.regime is not None:
                memory.regimes.left(memory.regime, memory.features)
            self._begin(memory.regimes)
            return told[0]
        memory.features.add(features)
        memory.error.add(error, size)
        if loss is not None:
            memory.loss.add(loss, size)
        if memory.regime is None and memory.features.count >= TOLD_AFTER:
            memory.regime = memory.regimes.recognise(memory.features)
        return None

    def to_json(self) -> "JsonValue":
        """Return everything as plain JSON; floats keep every bit through `json`."""
        self._memory.alarms = {name: alarm.state() for name, alarm in self._alarms.items()}
        return cast("JsonValue", _MEMORY.dump_python(self._memory, mode="json"))

    @classmethod
    def going_on(cls, value: "JsonValue", threshold: float = 1.0) -> "Watch":
        """Return a watch that goes on, exactly, from what `to_json` returned; None begins anew."""
        watch = cls(threshold)
        if value is not None:
            watch._memory = _MEMORY.validate_python(value)
            for name, state in watch._memory.alarms.items():
                watch._alarms[name].load_state(state)
        return watch

    def _begin(self, regimes: Regimes) -> None:
        self._memory = _Memory(regimes=regimes)
        kinds = {"features": _FEATURES, "error": _LEVELS, "loss": _LEVELS}
        self._alarms = {
            name: Alarm(kind["slack"], self._threshold * kind["threshold"], kind["cap"])
            for name, kind in kinds.items()
        }
