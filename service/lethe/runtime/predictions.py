"""The predictions of a run, made before each record is learned, on their way to the predictions topic."""

import base64
import json
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from torch import Tensor

from lethe.events import Emit, PredictionsStatus, PredictionsWritten
from lethe.ingest.batcher import FilledBatch
from lethe.ingest.origins import Origin
from lethe.learners.state import JSON
from lethe.stream.prediction_topic import Outgoing, PredictionTopic
from lethe.stream.source import Position

__all__ = ["Predicted", "Predictions", "TopicPredictions"]

MOST_BYTES: Final = 8 << 20
"""Predictions that are not acknowledged, beyond which learning waits."""
DIGITS: Final = 6
"""Decimal places of a probability."""


class Predicted(NamedTuple):
    """Classes, int64 of shape [B], and probabilities, float32 of shape [B, K], both on the CPU.

    K is the number of classes so far; while it is 0, classes are -1.
    """

    class_B: Tensor
    proba_BK: Tensor

    def confidence(self) -> npt.NDArray[np.float64]:
        """Return the probability of each predicted class, [B]; 0 while there is no class."""
        if not self.proba_BK.shape[1]:
            return np.zeros(len(self.proba_BK))
        confidence_B: npt.NDArray[np.float64] = self.proba_BK.amax(dim=1).double().numpy()
        return confidence_B


class Predictions:
    """The predictions of a run that writes none; `TopicPredictions` overrides every method."""

    @property
    def wanted(self) -> bool:
        """Whether predictions have to be made."""
        return False

    @property
    def begun(self) -> bool:
        """Whether a checkpoint taken now says where the predictions of later records begin."""
        return True

    @property
    def failure(self) -> str:
        """Why they cannot be written; empty while they can."""
        return ""

    def learns_from(self, position: Position) -> None:
        """Note the partitions that are learned from."""

    def add(self, filled: FilledBatch, predicted: Predicted, samples: int) -> None:
        """Queue the predictions for a batch, made by a learner that had learned ``samples`` samples."""

    def flush(self, seconds: float, *, all_of_them: bool = True) -> bool:
        """Write for about ``seconds``; return whether all are acknowledged, or few enough to go on.

        Raises PredictionsRejected.
        """
        del seconds, all_of_them
        return True

    def waits(self, waits_for: str) -> None:
        """Emit a change in what learning waits for; empty if it does not wait."""

    def snapshot(self, position: Position) -> JSON:
        """Return what a checkpoint at ``position`` stores; None if no predictions are written."""
        del position
        return None

    def close(self) -> None:
        """Close the connection."""


class TopicPredictions(Predictions):
    """Writes predictions to ``topic``, as JSON.

    ``names`` returns the names of the classes by number, as far as they have any, ``learner`` is the name of
    the learner and ``source`` the topic that is learned from.
    """

    def __init__(
        self,
        topic: PredictionTopic,
        source: str,
        learner: str,
        names: Callable[[], Sequence[str]],
        emit: Emit,
    ) -> None:
        self._topic, self._source, self._learner = topic, source, learner
        self._names, self._emit = names, emit
        self._waits_for = ""

    @property
    def wanted(self) -> bool:
        """Whether predictions have to be made."""
        return True

    @property
    def begun(self) -> bool:
        """Whether a checkpoint taken now says where the predictions of later records begin."""
        return self._topic.begun

    @property
    def failure(self) -> str:
        """Why they cannot be written; empty while they can."""
        return self._topic.failure

    def learns_from(self, position: Position) -> None:
        """Note the partitions that are learned from."""
        self._topic.create_for(max(position.offsets, default=0) + 1)

    def add(self, filled: FilledBatch, predicted: Predicted, samples: int) -> None:
        """Queue the predictions for a batch, made by a learner that had learned ``samples`` samples."""
        names, topic_id = self._names(), filled.position.topic_id
        classes, rows = predicted.class_B.tolist(), predicted.proba_BK.tolist()
        made = sorted(zip(filled.origins, classes, rows, strict=True), key=lambda each: each[0].offset)
        for origin, number, row in made:
            probabilities = [round(p, DIGITS) for p in row]
            about = {
                "topic": self._source,
                "topic_id": topic_id,
                "partition": origin.partition,
                "offset": origin.offset,
                **_key(origin),
                "class": number if probabilities else None,
                "name": names[number] if 0 <= number < len(names) else None,
                "probability": probabilities[number] if probabilities else None,
                "probabilities": probabilities,
                "model": {"learner": self._learner, "samples": samples},
                "headers": dict(origin.headers),
            }
            value = json.dumps(about, ensure_ascii=False, separators=(",", ":")).encode()
            self._topic.add(
                Outgoing(topic_id, origin.partition, origin.offset, origin.key, value, origin.headers)
            )

    def flush(self, seconds: float, *, all_of_them: bool = True) -> bool:
        """Write for about ``seconds``; return whether all are acknowledged, or few enough to go on."""
        before = self._topic.acknowledged
        try:
            return self._topic.flush(seconds, 0 if all_of_them else MOST_BYTES)
        finally:
            if count := self._topic.acknowledged - before:
                self._emit(PredictionsWritten(count))

    def waits(self, waits_for: str) -> None:
        """Emit a change in what learning waits for; empty if it does not wait."""
        if waits_for != self._waits_for:
            self._waits_for = waits_for
            self._emit(PredictionsStatus(waits_for))

    def snapshot(self, position: Position) -> JSON:
        """Return what a checkpoint at ``position`` stores: where the predictions of later records begin."""
        return cast("JSON", self._topic.snapshot(position.offsets, position.topic_id))

    def close(self) -> None:
        """Close the connection."""
        self._topic.close()


def _key(origin: Origin) -> dict[str, Any]:
    """Return the record's key, as text if it is UTF-8, otherwise in Base64 under another name."""
    if origin.key is None:
        return {"key": None}
    try:
        return {"key": origin.key.decode()}
    except UnicodeDecodeError:
        return {"key": None, "key_base64": base64.b64encode(origin.key).decode()}
