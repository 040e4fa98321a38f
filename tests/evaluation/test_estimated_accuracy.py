"""The accuracy estimated from confidences is that of the stream while confidence keeps its meaning."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from lethe.evaluation.estimated_accuracy import EstimatedAccuracy
from lethe.evaluation.history import History
from lethe.events import BatchLearned, Event, RecordsUnlabelled
from lethe.ingest.memory_feed import MemoryFeed
from lethe.learners.analytic.ncm import NCM
from lethe.learners.base import LearnerContext
from lethe.observability.run_state import RunState
from lethe.runtime.from_python.learn import learn_feed
from lethe.runtime.predictions import Predicted
from lethe.settings import BatchSettings, EvaluationSettings, Settings
from lethe.wire import UNLABELLED, Layout, Sample
from tests.support.scrape import Scrape


def batches(number: int, temper: float, size: int = 64, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Confidences that are right with a probability of confidence ** temper, and whether they are."""
    random = np.random.default_rng(seed)
    confidences = random.uniform(0.3, 1.0, size=(number, size))
    return [(c, random.random(size) < c**temper) for c in confidences]


@pytest.mark.parametrize("temper", [1.0, 3.0])
def test_calibrated_or_not_the_estimate_is_near_the_accuracy(temper: float) -> None:
    estimated = EstimatedAccuracy()
    right = []
    for confidence, correct in batches(300, temper):
        estimated.add(confidence)
        estimated.learn(confidence, correct)
        right.append(correct.mean())
    assert estimated.fading == pytest.approx(np.mean(right[-40:]), abs=0.03)


def test_records_without_labels_are_estimated_from_the_labelled_ones_before() -> None:
    estimated = EstimatedAccuracy()
    for confidence, correct in batches(200, 3.0):
        estimated.add(confidence)
        estimated.learn(confidence, correct)
    unlabelled = batches(200, 3.0, seed=1)
    for confidence, _ in unlabelled:
        estimated.add(confidence)
    assert estimated.fading == pytest.approx(np.mean([right.mean() for _, right in unlabelled]), abs=0.03)


def test_confidence_alone_is_believed_before_the_first_label() -> None:
    estimated = EstimatedAccuracy()
    estimated.add(np.array([0.9, 0.7]))
    assert estimated.fading == pytest.approx(0.8)


def test_the_state_survives_json() -> None:
    estimated = EstimatedAccuracy()
    for confidence, correct in batches(5, 1.0):
        estimated.add(confidence)
        estimated.learn(confidence, correct)
    stored = json.loads(json.dumps(asdict(estimated)))
    assert TypeAdapter(EstimatedAccuracy).validate_python(stored) == estimated


def test_a_confidence_of_exactly_one_or_zero_has_a_bin() -> None:
    estimated = EstimatedAccuracy()
    estimated.add(np.array([0.0, 1.0]))
    assert estimated.fading == pytest.approx(0.5)


LAYOUT = Layout(height=8, width=8, classes=3)


def learned(*, estimate: bool, labelled: int = 96) -> tuple[RunState, list[Event]]:
    """A short run without probes, of which only the first samples have a label, and its events on them."""
    random, events = np.random.default_rng(0), list[Event]()
    samples = [
        Sample(
            random.integers(0, 256, (1, 8, 8), dtype=np.uint8),
            int(random.integers(3)) if number < labelled else UNLABELLED,
        )
        for number in range(96)
    ]
    settings = Settings(
        batch=BatchSettings(size=32, slots=2), evaluation=EvaluationSettings(estimate=estimate), sample=LAYOUT
    )
    state = learn_feed(
        NCM(LearnerContext(LAYOUT)),
        MemoryFeed(samples, 96, settings.batch, LAYOUT),
        [],
        settings,
        on_event=lambda event: (
            events.append(event) if isinstance(event, BatchLearned | RecordsUnlabelled) else None
        ),
    )
    return state, events


def estimates(events: list[Event]) -> list[float | None]:
    return [event.estimated for event in events if isinstance(event, BatchLearned | RecordsUnlabelled)]


def test_a_run_estimates_only_if_asked() -> None:
    state, events = learned(estimate=True)
    found = estimates(events)
    assert [estimate is None for estimate in found] == [False] * 3
    assert state.result().estimated_accuracy == found[-1]
    assert state.state()["estimated_accuracy"] == found[-1]
    assert Scrape(*events).value("prequential_accuracy_ratio", kind="estimated") == found[-1]
    state, events = learned(estimate=False)
    assert estimates(events) == [None] * 3
    assert state.result().estimated_accuracy is None
    assert Scrape(*events).value("prequential_accuracy_ratio", kind="estimated") is None


def test_samples_without_a_label_count_in_the_estimate_and_not_in_the_measured_accuracy() -> None:
    whole, _ = learned(estimate=True, labelled=48)
    state, events = learned(estimate=True, labelled=32)
    assert [type(event) for event in events] == [BatchLearned, RecordsUnlabelled, RecordsUnlabelled]
    first, *later = estimates(events)
    assert first not in later
    assert state.result().estimated_accuracy == later[-1]
    assert Scrape(*events).value("prequential_accuracy_ratio", kind="estimated") == later[-1]
    assert state.state()["samples"]["unlabelled"] == 64
    assert isinstance(events[0], BatchLearned)
    assert state.result().fading_accuracy == events[0].prequential_fading
    assert (whole.state()["samples"]["learned"], whole.state()["samples"]["unlabelled"]) == (48, 48)
    _, events = learned(estimate=False, labelled=32)
    assert estimates(events) == [None] * 3


def test_while_no_class_is_known_nothing_is_predicted_with_confidence() -> None:
    predicted = Predicted(torch.full((2,), -1), torch.zeros(2, 0))
    assert predicted.confidence().tolist() == [0.0, 0.0]
    predicted = Predicted(torch.tensor([1, 0]), torch.tensor([[0.25, 0.75], [0.5, 0.5]]))
    assert predicted.confidence().tolist() == [0.75, 0.5]


def test_what_a_policy_withholds_is_forgotten() -> None:
    history = History([])
    history.learned(1, 1)
    history.estimated.add(np.array([0.9]))
    history.withhold_prequential()
    assert history.estimated.fading is None
