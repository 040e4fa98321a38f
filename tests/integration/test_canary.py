"""A canary in the stream: once learned and purged it is nowhere, in no file, no topic and no memory."""

import os
from pathlib import Path

import numpy as np
import pytest

from deploy.kafka.kraft import KafkaNode
from service.bench.canary import Canary, Sighting, run_canary
from service.bench.search import Needles, found_in_files, found_in_memory

NOISE = np.random.default_rng().bytes(1000)


def test_a_search_finds_what_is_there(tmp_path: Path) -> None:
    needles, other = Needles.of(NOISE), Needles.of(np.random.default_rng().bytes(1000))
    (tmp_path / "deep").mkdir()
    held = tmp_path / "deep" / "file"
    held.write_bytes(b"before" + NOISE + b"after")
    assert found_in_files(tmp_path, needles) == [held]
    assert found_in_files(tmp_path, Needles((b"\0" * 32,))) == []
    assert found_in_memory(os.getpid(), needles)
    kept = bytearray(other.pieces[0])
    assert found_in_memory(os.getpid(), other)
    del kept


def check(found: Sighting) -> None:
    assert found.files == []
    assert (found.dead_letters, found.served) == (0, 0)
    assert found.memory["service"] is None
    assert found.gone_from_memory, found.memory
    assert found.passed


@pytest.mark.needs("embedded")
def test_it_is_nowhere_with_the_embedded_broker(tmp_path: Path) -> None:
    check(run_canary(Canary(tmp_path, quiet=1, patience=20, before=4, after=4), print))


@pytest.mark.needs("kafka")
def test_it_leaves_the_disk_of_apache_kafka_too(kafka_node: KafkaNode, tmp_path: Path) -> None:
    place = Canary(
        tmp_path,
        broker=kafka_node.bootstrap_servers,
        broker_files=kafka_node.directory / "data",
        quiet=1,
        patience=20,
        before=4,
    )
    found = run_canary(place, print)
    assert found.seen_on_disk  # before the purge: the search looks in the right place
    check(found)
