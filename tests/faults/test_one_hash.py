"""One hash, whatever the road: order, batches, threads, parts that are merged, and kills."""

import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from deploy.kafka.kraft import KafkaNode
from lethe.learners.base import LearnerContext
from lethe.learners.registry import create
from lethe.learners.state import JSON
from lethe.privacy.merge import merge_states
from lethe.privacy.stored_learner import sums_digest
from lethe.privacy.verify_sums import verify_topic
from lethe.wire import Layout, Sample, encode
from tests.support.brokers import StreamBroker, of_kafka
from tests.support.services import service
from tests.support.streams import send, settings_of

LAYOUT = Layout(height=8, width=8)
COUNT = 2400  # of which 1, 2, 3 and 4 parts are of equal size
OPTIONS: dict[str, JSON] = {"waves": 300}
MOST_KILLS = 3


def images() -> Sequence[Sample]:
    random_numbers = np.random.default_rng(0)
    x_NCHW = random_numbers.integers(0, 256, (COUNT, *LAYOUT.shape), dtype=np.uint8)
    return [Sample(x, int(random_numbers.integers(10))) for x in x_NCHW]


def hash_of_all(name: str, samples: Sequence[Sample]) -> str:
    learner = create(name, LearnerContext(LAYOUT, options=OPTIONS))
    x_NCHW = torch.from_numpy(np.stack([sample.pixels for sample in samples]))
    learner.learn(x_NCHW, torch.tensor([sample.label for sample in samples]))
    return sums_digest(learner)


def run_part(
    broker: StreamBroker, topic: str, folder: Path, name: str, part: tuple[int, int], choose: random.Random
) -> Path:
    """Run a service of one part to its end, killed at random instants; return its state folder."""
    folder.mkdir()
    rank, parts = part
    variables: dict[str, object] = {
        "LEARNER__NAME": name,
        "LEARNER__OPTIONS": '{"waves": 300}',
        "LEARNER__THREADS": choose.choice([1, 2]),
        "SAMPLE__HEIGHT": 8,
        "SAMPLE__WIDTH": 8,
        "BATCH__SIZE": choose.choice([1, 7, 64, 512, choose.randint(1, 2048), 2048]),
        "CHECKPOINT__FOLDER": folder / "state",
        "CHECKPOINT__EVERY_SAMPLES": choose.choice([100, 1000]),
        "STREAM__RANK": rank,
        "STREAM__WORLD": parts,
        "STREAM__STOP_AFTER": COUNT // parts,
    }
    for _ in range(choose.randint(0, MOST_KILLS)):
        with service(broker, topic, folder, **variables):
            time.sleep(choose.uniform(0.2, 3.0))  # then it is killed with SIGKILL
    with service(broker, topic, folder, **variables) as running:
        assert running.process.wait(300) == 0, running.log
    return folder / "state"


def one_run(broker: StreamBroker, topic: str, folder: Path, name: str, seed: int) -> str:
    """Learn all images in a random way; return the SHA-256 of the sums."""
    choose = random.Random(seed)
    parts = choose.randint(1, 4)
    broker.create_topic(topic, parts)
    samples = list(images())
    choose.shuffle(samples)
    send(broker, topic, [(number % parts, *encode(sample)) for number, sample in enumerate(samples)])
    states = [
        run_part(broker, topic, folder / f"part-{rank}", name, (rank, parts), choose) for rank in range(parts)
    ]
    if parts > 1:
        merge_states(states, folder / "all")
    verdict = verify_topic(folder / "all" if parts > 1 else states[0], settings_of(broker, topic))
    assert (verdict.equal, verdict.samples) == (True, COUNT)
    return verdict.stored


@pytest.mark.needs("kafka")
def test_a_random_run_has_the_hash_of_all_samples(kafka_node: KafkaNode, topic: str, tmp_path: Path) -> None:
    assert one_run(of_kafka(kafka_node), topic, tmp_path, "ridge", 4) == hash_of_all("ridge", images())


@pytest.mark.long
@pytest.mark.needs("kafka")
@pytest.mark.timeout(7200)
def test_100_random_runs_have_one_hash(kafka_node: KafkaNode, topic: str, tmp_path: Path) -> None:
    hashes = set()
    for seed in range(100):
        folder = tmp_path / str(seed)
        folder.mkdir()
        hashes.add(one_run(of_kafka(kafka_node), f"{topic}-{seed}", folder, "ridge", seed))
    assert hashes == {hash_of_all("ridge", images())}
