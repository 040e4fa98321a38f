"""Measures the cost of the stream: a learner's speed through Kafka, relative to its speed from memory.

Through Kafka means the whole service: reader process, loop, prequential accuracy, run state and metrics,
on a topic that was filled beforehand. From memory means ``learn`` in a plain loop. The two are measured in
turns, so that load on the machine slows down both alike. The first batches of each turn are not counted:
the reader has filled its slots before the turn begins.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Final

import numpy as np
import torch
from prometheus_client import CollectorRegistry

from lethe.evaluation.history import History
from lethe.events import BatchLearned, Emit, Event
from lethe.experiments.topics import publish, temporary_topic
from lethe.ingest.reader_process import ReaderProcess
from lethe.learners.base import Learner
from lethe.learners.registry import find
from lethe.observability.metrics import Metrics
from lethe.observability.run_state import RunState
from lethe.runtime.factories import create_learner
from lethe.runtime.loop import Loop
from lethe.settings import BatchSettings, LearnerSettings, Settings
from lethe.stream.settings import StreamSettings
from lethe.wire import Labels, Layout, Pixels, Sample, encode

__all__ = [
    "NEVER",
    "WARM_BATCHES",
    "PipelineBench",
    "PipelineSpeed",
    "bench_pipeline",
    "filled_topic",
    "learn_topic",
    "noise_images",
]

WARM_BATCHES: Final = 48
"""Uncounted batches of each turn: three times as many as fit in the reader's slots."""
SAMPLES: Final = 12_800
"""Samples counted per turn, unless a number of batches is given."""
NEVER: Final = 1 << 62


@dataclass(frozen=True)
class PipelineBench:
    """Options of the benchmark."""

    learner: str = "finetune"
    threads: int = 1
    broker: str | None = None
    """HOST:PORT of a Kafka cluster; None starts the embedded broker."""
    batches: int | None = None
    """Batches counted per turn; None is as many as `SAMPLES` fill."""
    turns: int = 7


@dataclass
class PipelineSpeed:
    """Samples learned per second in each turn."""

    memory: list[float] = field(default_factory=list)
    kafka: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Median over the turns of the speed through Kafka divided by the speed from memory."""
        return median(k / m for k, m in zip(self.kafka, self.memory, strict=True))


def bench_pipeline(bench: PipelineBench, seed: int = 0) -> Iterator[PipelineSpeed]:
    """Yield the speeds so far after each turn.

    Batches are as large as the learner's are unless a service is given another size. Raises LetheError if the
    broker cannot be reached or the learner does not exist.
    """
    settings = LearnerSettings(name=bench.learner, threads=bench.threads, seed=seed)
    layout, speed = Layout(), PipelineSpeed()
    size = find(bench.learner).batch_size
    count = (WARM_BATCHES + (bench.batches or -(-SAMPLES // size))) * size
    x_NCHW, y_N = noise_images(layout, count, seed)
    with filled_topic(bench.broker, x_NCHW, y_N) as stream:
        kafka = Settings(
            stream=stream.model_copy(update={"stop_after": count}),
            learner=settings,
            batch=BatchSettings(size=size),
        )
        learner, baseline = (create_learner(settings, layout, size) for _ in range(2))
        for turn in range(bench.turns):
            # the second finds warmer caches: alternate the order, too
            for through_kafka in (turn % 2 == 0, turn % 2 == 1):
                if through_kafka:
                    speed.kafka.append(_through_kafka(kafka, learner))
                else:
                    speed.memory.append(_from_memory(baseline, x_NCHW, y_N, kafka.batch.size))
            yield speed


def noise_images(layout: Layout, count: int, seed: int) -> tuple[Pixels, Labels]:
    """Return images of noise, since speed does not depend on their content."""
    rng = np.random.default_rng(seed)
    x_NCHW = rng.integers(0, 256, (count, *layout.shape), np.uint8)
    return x_NCHW, rng.integers(0, layout.classes, count, np.int64)


@contextmanager
def filled_topic(
    broker: str | None, x_NCHW: Pixels, y_N: Labels, multiple: int = 1
) -> Iterator[StreamSettings]:
    """Create a topic that holds these samples, yield its stream settings, and delete it on exit.

    The number of its partitions is a multiple of ``multiple``.
    """
    # the embedded broker retains 5 MiB per partition, about 5,900 samples
    least = 1 + len(y_N) // 4000 if broker is None else 1
    partitions = -(-least // multiple) * multiple
    with temporary_topic(broker, "bench", partitions) as stream:
        publish(stream, (encode(Sample(x, int(y))) for x, y in zip(x_NCHW, y_N, strict=True)))
        yield stream


def _through_kafka(settings: Settings, learner: Learner) -> float:
    history = History([])
    run_state = RunState(settings, type(learner), history)
    metrics = Metrics(CollectorRegistry(), settings.sample.size, {})
    learned: list[tuple[float, int]] = []

    def emit(event: Event) -> None:
        run_state(event)
        metrics(event)
        if isinstance(event, BatchLearned):
            learned.append((time.monotonic(), event.samples))

    learn_topic(settings, learner, history, emit)
    (began, _), *counted = learned[WARM_BATCHES - 1 :]
    return sum(samples for _, samples in counted) / (counted[-1][0] - began)


def learn_topic(settings: Settings, learner: Learner, history: History, emit: Emit) -> None:
    """Learn the whole topic through a new reader process."""
    feed = ReaderProcess(settings.stream, settings.batch, settings.sample)
    try:
        Loop(feed, learner, None, NEVER, history, emit, stopping=lambda: False).run()
    finally:
        feed.close()


def _from_memory(learner: Learner, x_NCHW: Pixels, y_N: Labels, size: int) -> float:
    x, y = torch.from_numpy(x_NCHW), torch.from_numpy(y_N)
    warm = WARM_BATCHES * size
    started = 0.0
    for first in range(0, len(y), size):
        if first == warm:
            started = time.perf_counter()
        learner.learn(x[first : first + size], y[first : first + size])
    return (len(y) - warm) / (time.perf_counter() - started)
