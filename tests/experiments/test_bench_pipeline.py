"""The pipeline benchmark: both sides in each turn, in batches of the learner's own size."""

import pytest

from lethe.evaluation.history import History
from lethe.events import Emit
from lethe.experiments.bench import pipeline
from lethe.experiments.bench.pipeline import PipelineBench, PipelineSpeed, bench_pipeline
from lethe.learners.base import Learner
from lethe.learners.registry import find
from lethe.settings import Settings


def test_the_ratio_is_the_median_of_the_turns() -> None:
    assert PipelineSpeed(memory=[100.0, 100.0, 50.0], kafka=[90.0, 80.0, 50.0]).ratio == pytest.approx(0.9)


def test_each_turn_learns_through_the_broker_and_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    through_kafka = pipeline.learn_topic

    def learn_topic(settings: Settings, learner: Learner, history: History, emit: Emit) -> None:
        sizes.append(settings.batch.size)
        through_kafka(settings, learner, history, emit)

    monkeypatch.setattr(pipeline, "learn_topic", learn_topic)
    monkeypatch.setattr(pipeline, "WARM_BATCHES", 2)
    speeds = list(bench_pipeline(PipelineBench("ncm", batches=3, turns=2)))
    assert sizes == 2 * [find("ncm").batch_size]
    assert len(speeds) == 2
    assert len(speeds[-1].memory) == len(speeds[-1].kafka) == 2
    assert min(speeds[-1].memory + speeds[-1].kafka) > 0
