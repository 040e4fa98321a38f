"""A canary in the stream: once learned and purged, it is in no file, no topic and no memory."""

import os
from pathlib import Path

import numpy as np
import pytest

from deploy.kafka.kraft import KafkaNode
from lethe.experiments.bench.canary import Canary, CanaryResult, run_canary
from lethe.experiments.bench.memory_search import Needles, find_in_files, find_in_memory

NOISE = np.random.default_rng().bytes(1000)


def test_a_search_finds_a_planted_image(tmp_path: Path) -> None:
    needles, other = Needles.of(noise=NOISE), Needles.of(other=np.random.default_rng().bytes(1000))
    (tmp_path / "deep").mkdir()
    held = tmp_path / "deep" / "file"
    held.write_bytes(b"before" + NOISE + b"after")
    assert find_in_files(tmp_path, needles) == [held]
    assert find_in_files(tmp_path, Needles({"zeros": b"\0" * 32})) == []
    assert find_in_memory(os.getpid(), needles)
    kept = bytearray(other.pieces["other"])
    assert find_in_memory(os.getpid(), other)
    del kept


def check(found: CanaryResult) -> None:
    assert found.files == []
    assert (found.dead_letters, found.served) == (0, 0)
    assert found.gone_from_memory, found.memory
    assert found.passed


@pytest.mark.needs("embedded", "memory")
def test_no_copy_is_left_with_the_embedded_broker(tmp_path: Path) -> None:
    check(run_canary(Canary(tmp_path, quiet=1, patience=90, before=4, after=4), print))


@pytest.mark.long
@pytest.mark.needs("embedded", "memory")
@pytest.mark.parametrize("learner", ["finetune", "ridge"])
def test_no_copy_of_a_vector_is_left(learner: str, tmp_path: Path) -> None:
    policy = tmp_path / "ward.yaml"
    policy.write_text("{name: ward, retention: statistics, residency_seconds: 20}")
    planted = Canary(
        tmp_path / "run",
        quiet=1,
        patience=90,
        before=4,
        after=4,
        policy=str(policy),
        learner=learner,
        features=64,
    )
    check(run_canary(planted, print))


@pytest.mark.long
@pytest.mark.needs("kafka", "memory")
def test_no_copy_is_left_on_the_disk_of_apache_kafka(kafka_node: KafkaNode, tmp_path: Path) -> None:
    place = Canary(
        tmp_path,
        broker=kafka_node.bootstrap_servers,
        broker_files=kafka_node.directory / "data",
        quiet=1,
        patience=90,
        before=4,
    )
    found = run_canary(place, print)
    assert found.seen_on_disk  # before the purge: the search looks in the right place
    check(found)
