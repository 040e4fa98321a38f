"""Topics of small random images, and their first remaining offsets."""

from collections.abc import Callable

import numpy as np
from kafka import KafkaConsumer, TopicPartition

from lethe.wire import RAW, Sample, encode
from tests.support.faults.services import SIZE, Stage

__all__ = ["PARTITIONS", "Fill", "Outgoing", "images", "records", "starts"]

PARTITIONS = 2
Outgoing = tuple[bytes | None, list[tuple[str, bytes]]]
Fill = Callable[..., Stage]
"""Takes a topic's name, the records to add to it, and its number of partitions if not `PARTITIONS`."""


def images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y_N = rng.integers(0, 10, count)
    x_NCHW = rng.integers(0, 100, (count, 1, SIZE, SIZE), np.uint8)
    x_NCHW[np.arange(count), 0, y_N % SIZE, y_N // 2] = 255
    return x_NCHW, y_N


def records(segment: str, count: int, seed: int, encoding: str = RAW) -> list[Outgoing]:
    x_NCHW, y_N = images(count, seed)
    return [encode(Sample(x, int(y), segment), encoding) for x, y in zip(x_NCHW, y_N, strict=True)]


def starts(stage: Stage) -> dict[int, int]:
    places = [TopicPartition(stage.topic, p) for p in range(PARTITIONS)]
    with KafkaConsumer(bootstrap_servers=stage.bootstrap_servers) as consumer:
        return {place.partition: offset for place, offset in consumer.beginning_offsets(places).items()}
