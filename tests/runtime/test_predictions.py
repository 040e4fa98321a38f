"""Predictions on their way out: their content, and a loop that waits for them without losing any."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lethe.errors import PredictionsRejected
from lethe.events import Event, PredictionsStatus, PredictionsWritten
from lethe.ingest.batcher import FilledBatch
from lethe.ingest.feed import Batch
from lethe.ingest.origins import Origin
from lethe.learners.base import Learned, LearnerContext
from lethe.runtime.predictions import Predicted, Predictions, TopicPredictions
from lethe.runtime.step import learn_batch
from lethe.stream.prediction_topic import Outgoing, PredictionTopic
from lethe.stream.settings import StreamSettings
from tests.support.feeds import LAYOUT, ScriptedFeed, segment
from tests.support.filled import filled
from tests.support.runs import Remembering, learn


class Memory(PredictionTopic):
    """A topic that holds what is queued, and is written on command."""

    def __init__(self) -> None:
        super().__init__(StreamSettings(predictions_topic="guesses"), {"topic_id": None, "ends": {}})
        self.queued: list[Outgoing] = []

    def add(self, prediction: Outgoing) -> None:
        self.queued.append(prediction)

    def flush(self, seconds: float, most_bytes: int = 0) -> bool:
        self.acknowledged = len(self.queued)
        return True


def batch_from(*origins: Origin) -> FilledBatch:
    return replace(filled(0, len(origins)), origins=origins)


def made(origin: Origin, names: Sequence[str] = ()) -> tuple[Outgoing, dict[str, Any]]:
    topic, events = Memory(), list[Event]()
    predictions = TopicPredictions(topic, "images", "ridge", lambda: names, events.append)
    predicted = Predicted(torch.tensor([1]), torch.tensor([[0.25, 0.75]]))
    predictions.add(batch_from(origin), predicted, 640)
    (outgoing,) = topic.queued
    return outgoing, json.loads(outgoing.value)


def test_a_prediction_names_its_record_its_class_and_its_model() -> None:
    trace = (("traceparent", "00-4bf9"), ("ce_id", "7"))
    outgoing, value = made(Origin(2, 7, b"ward-4", trace), ["cat", "dog"])
    assert value == {
        "topic": "images",
        "topic_id": None,
        "partition": 2,
        "offset": 7,
        "key": "ward-4",
        "class": 1,
        "name": "dog",
        "probability": 0.75,
        "probabilities": [0.25, 0.75],
        "model": {"learner": "ridge", "samples": 640},
        "headers": {"traceparent": "00-4bf9", "ce_id": "7"},
    }
    assert (outgoing.key, outgoing.headers) == (b"ward-4", trace)


def test_a_key_that_is_no_text_and_a_class_without_a_name_are_said_to_be_so() -> None:
    outgoing, value = made(Origin(0, 1, b"\xff\x00"))
    assert (value["key"], value["key_base64"], value["name"]) == (None, "/wA=", None)
    assert outgoing.key == b"\xff\x00"


def test_those_of_a_partition_are_queued_in_the_order_of_its_records() -> None:
    topic, events = Memory(), list[Event]()
    predictions = TopicPredictions(topic, "images", "ridge", list, events.append)
    predicted = Predicted(torch.tensor([0, 1]), torch.eye(2))
    predictions.add(batch_from(Origin(0, 9), Origin(0, 4)), predicted, 0)
    assert [(each.offset, json.loads(each.value)["class"]) for each in topic.queued] == [(4, 1), (9, 0)]
    assert predictions.flush(0)
    assert events == [PredictionsWritten(2)]
    assert predictions.flush(0)
    assert len(events) == 1


class Silent(Remembering):
    """A learner of somebody's own, that gives classes alone."""

    reports_probabilities = False

    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        return replace(super().learn(x_BCHW, y_B), probabilities=None)


@pytest.mark.parametrize(("kind", "asked"), [(Remembering, 0), (Silent, 1)])
def test_probabilities_are_those_before_learning_and_asked_for_only_if_wanted(
    kind: type[Remembering], asked: int
) -> None:
    learner, twin = (kind(LearnerContext(LAYOUT)) for _ in range(2))
    feed = ScriptedFeed(segment("a", 16), size=16)
    batch = feed.next(0)
    assert isinstance(batch, Batch)
    expected = Remembering.predict_proba(twin, torch.from_numpy(np.array(batch.x_BCHW)))
    numbers, _, predicted = learn_batch(learner, batch, predictions=True)
    assert predicted is not None
    assert torch.allclose(predicted.proba_BK, expected, atol=1e-6)
    assert torch.equal(predicted.class_B, expected.argmax(1))
    assert (numbers.samples, learner.predicted) == (16, asked)


class Scripted(Predictions):
    """Predictions that cannot be written as long as ``away`` says so."""

    def __init__(self, away: Callable[["Scripted"], bool]) -> None:
        self.away, self.asked, self.events = away, 0, list[str]()
        self.added = self.written = 0

    @property
    def wanted(self) -> bool:
        return True

    @property
    def failure(self) -> str:
        return "no broker"

    def add(self, filled: FilledBatch, predicted: Predicted, samples: int) -> None:
        assert samples == self.added
        self.added += filled.samples

    def flush(self, seconds: float, *, all_of_them: bool = True) -> bool:
        self.asked += 1
        if self.away(self):
            return False
        self.written = self.added
        return True

    def waits(self, waits_for: str) -> None:
        self.events.append(waits_for)


@pytest.mark.parametrize("apart", [False, True])
def test_learning_waits_while_predictions_cannot_be_written_and_loses_nothing(apart: bool) -> None:
    predictions = Scripted(lambda self: 3 <= self.asked < 8)
    run = learn(segment("a", 64), predictions=predictions, apart=apart)
    assert (predictions.added, predictions.written, run.history.samples) == (64, 64, 64)
    assert len(run.images) == 64
    assert [waits for waits in predictions.events if waits] == ["no broker"] * 5
    assert run.feed.handed_back >= apart  # under a residency bound nothing stays in memory meanwhile


def test_a_run_that_should_stop_does_not_wait_for_them() -> None:
    predictions = Scripted(lambda self: self.asked >= 3)
    run = learn(segment("a", 64), predictions=predictions, stopping=lambda _: predictions.asked > 6)
    assert 0 < run.history.samples < 64


def test_the_loop_ends_if_they_are_rejected() -> None:
    def reject(predictions: Scripted) -> bool:
        if predictions.asked == 4:
            raise PredictionsRejected("too large")
        return False

    with pytest.raises(PredictionsRejected):
        learn(segment("a", 64), predictions=Scripted(reject))


def test_a_change_of_what_learning_waits_for_is_emitted_once() -> None:
    events = list[Event]()
    predictions = TopicPredictions(Memory(), "images", "ridge", list, events.append)
    for waits_for in ("", "no broker", "no broker", "", ""):
        predictions.waits(waits_for)
    assert events == [PredictionsStatus("no broker"), PredictionsStatus("")]
