"""What the stream costs: a learner's speed through Kafka, over its speed fed from memory.

Through Kafka it is the whole service: feeder process, loop, prequential accuracy, journal and
metrics, on a topic that was filled beforehand. From memory it is ``learn`` in a bare loop. Both
take turns, so that a neighbour on the machine slows down both alike, and the first batches of
each turn do not count: the feeder fills its slots while it waits.
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

from producers.publisher import Broker, Publisher
from producers.records import Record
from service.demo.stage import fresh_topic
from service.evaluation.history import History
from service.events import BatchLearned, Emit, Event
from service.feed import FeederProcess
from service.journal import Journal
from service.learners.base import Learner
from service.loop import Loop
from service.metrics import Metrics
from service.parts import create_learner
from service.settings import LearnerSettings, Settings
from service.stream.embedded import API_VERSION
from service.stream.settings import StreamSettings
from service.wire import Labels, Layout, Pixels, Sample, encode

__all__ = [
    "WARM_BATCHES",
    "PipelineBench",
    "PipelineSpeed",
    "bench_pipeline",
    "filled_topic",
    "images",
    "learn_topic",
]

WARM_BATCHES: Final = 48
"""Batches of each turn that do not count: three times as many as wait in the feeder's slots."""
NEVER: Final = 1 << 62


@dataclass(frozen=True)
class PipelineBench:
    """What is compared, and how often."""

    learner: str = "finetune"
    threads: int = 1
    broker: str | None = None
    """HOST:PORT of a Kafka cluster; None starts the embedded broker."""
    batches: int = 200
    """Counted in a turn."""
    turns: int = 7


@dataclass
class PipelineSpeed:
    """Samples learned a second, turn by turn."""

    memory: list[float] = field(default_factory=list)
    kafka: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """The median over the turns of through Kafka over from memory."""
        return median(k / m for k, m in zip(self.kafka, self.memory, strict=True))


def bench_pipeline(bench: PipelineBench, seed: int = 0) -> Iterator[PipelineSpeed]:
    """Yield the speeds so far after each turn.

    Raises LetheError when the broker or the learner cannot be had.
    """
    settings = LearnerSettings(name=bench.learner, threads=bench.threads, seed=seed)
    layout, speed = Layout(), PipelineSpeed()
    count = (WARM_BATCHES + bench.batches) * Settings().batch.size
    x_NCHW, y_N = images(layout, count, seed)
    with filled_topic(bench.broker, x_NCHW, y_N) as stream:
        kafka = Settings(stream=stream.model_copy(update={"stop_after": count}), learner=settings)
        learner, baseline = create_learner(settings, layout), create_learner(settings, layout)
        for turn in range(bench.turns):
            # whoever comes second finds warmer caches: take turns at that, too
            for through_kafka in (turn % 2 == 0, turn % 2 == 1):
                if through_kafka:
                    speed.kafka.append(_through_kafka(kafka, learner))
                else:
                    speed.memory.append(_from_memory(baseline, x_NCHW, y_N, kafka.batch.size))
            yield speed


def images(layout: Layout, count: int, seed: int) -> tuple[Pixels, Labels]:
    """Return noise: what is in an image does not change how long it takes."""
    rng = np.random.default_rng(seed)
    x_NCHW = rng.integers(0, 256, (count, *layout.shape), np.uint8)
    return x_NCHW, rng.integers(0, layout.classes, count, np.int64)


@contextmanager
def filled_topic(broker: str | None, x_NCHW: Pixels, y_N: Labels) -> Iterator[StreamSettings]:
    """Give the stream of a topic that holds these samples; it is deleted afterwards."""
    # the embedded broker keeps 5 MiB of a partition, about 5,900 samples; a real one all of it
    partitions = 1 + len(y_N) // 4000 if broker is None else 1
    with fresh_topic(broker, "bench", partitions) as stream:
        version = API_VERSION if broker is None else None
        _fill(Broker(stream.bootstrap_servers, version), stream, partitions, x_NCHW, y_N)
        yield stream


def _fill(broker: Broker, stream: StreamSettings, partitions: int, x_NCHW: Pixels, y_N: Labels) -> None:
    with Publisher(broker, stream.topic, partitions) as publisher:
        for i, (pixels, label) in enumerate(zip(x_NCHW, y_N, strict=True)):
            value, headers = encode(Sample(pixels, int(label)))
            publisher.send(Record(i, str(i).encode(), value, headers), i % partitions)
        publisher.flush()


def _through_kafka(settings: Settings, learner: Learner) -> float:
    history = History([])
    journal = Journal(settings, type(learner), history)
    metrics = Metrics(CollectorRegistry(), settings.sample.size, {})
    learned: list[tuple[float, int]] = []

    def emit(event: Event) -> None:
        journal(event)
        metrics(event)
        if isinstance(event, BatchLearned):
            learned.append((time.monotonic(), event.samples))

    learn_topic(settings, learner, history, emit)
    (began, _), *counted = learned[WARM_BATCHES - 1 :]
    return sum(samples for _, samples in counted) / (counted[-1][0] - began)


def learn_topic(settings: Settings, learner: Learner, history: History, emit: Emit) -> None:
    """Learn the whole topic, from a feeder of its own."""
    feed = FeederProcess(settings.stream, settings.batch, settings.sample)
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
