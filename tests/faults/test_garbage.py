"""Garbage in the stream: every record that is no sample is counted, once, whenever the service is killed."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import KafkaConsumer, TopicPartition

from service.chaos.instants import Instant
from service.chaos.outcome import Outcome
from service.chaos.victim import run_through
from service.checkpoint import read_checkpoint
from service.errors import MalformedRecord
from service.learners import LEARNERS
from service.state_folder import checkpoint_files
from service.wire import Layout, decode
from tests.faults.conftest import Fill, Outgoing, records
from tests.faults.harness import SIZE, Forked, Stage

pytestmark = pytest.mark.needs("kafka")

FUZZED = 10_000
LAYOUT = Layout(height=SIZE, width=SIZE, max_bytes=4096)


def fuzzed(good: list[Outgoing], count: int, seed: int) -> list[Outgoing]:
    """Good records with one thing, or a few, wrong with each; some are none the worse for it."""
    rng = random.Random(seed)
    found: list[Outgoing] = []
    for _ in range(count):
        value, headers = rng.choice(good)
        for _ in range(rng.randint(1, 3)):
            match rng.randrange(6):
                case 0:
                    value = None
                case 1:
                    value = rng.randbytes(rng.randint(0, 200))
                case 2 if value:
                    value = value[: rng.randrange(len(value))]
                case 3:
                    headers = [pair for pair in headers if rng.random() < 0.7]
                case 4:
                    headers = [(k, v if rng.random() < 0.6 else rng.randbytes(8)) for k, v in headers]
                case _:
                    headers = [*headers, ("label", str(rng.randint(-5, 10**6)).encode())]
        found.append((value, headers))
    return found


def reason(record: Outgoing) -> str | None:
    try:
        decode(*record, LAYOUT)
    except MalformedRecord as error:
        return error.reason
    return None


@pytest.fixture(scope="module")
def garbage(fill: Fill) -> tuple[Stage, Counter[str | None]]:
    """A topic with 10,000 fuzzed records among good ones, and for what reasons how many are no samples."""
    good = records("a", 600, 4)
    mixed = [*good, *fuzzed(good, FUZZED, 5)]
    random.Random(6).shuffle(mixed)
    return fill("garbage", mixed), Counter(map(reason, mixed))


@pytest.mark.parametrize("learner", LEARNERS)
def test_ten_thousand_fuzzed_records_are_each_counted_across_kills(
    learner: str,
    garbage: tuple[Stage, Counter[str | None]],
    run_alone: Callable[..., Outcome],
    tmp_path: Path,
) -> None:
    stage, reasons = garbage
    dead = {reason: count for reason, count in reasons.items() if reason is not None}
    letters = f"{stage.topic}.{learner.replace('+', '-')}"
    settings = stage.settings(learner, tmp_path / "state", stream={"dead_letter_topic": letters})
    wanted = run_alone(stage, learner, tmp_path / "alone")
    assert wanted.learned == reasons[None]
    assert wanted.dead == sum(dead.values())
    run_through(lambda: Forked(settings), [Instant(samples, 0.0) for samples in (200, 400)])
    assert Outcome.of(tmp_path / "state") == wanted
    last = read_checkpoint(checkpoint_files(tmp_path / "state")[-1])
    assert isinstance(last.counts, dict)
    assert last.counts["dead"] == dead
    assert len(set(letters_of(stage, letters))) == wanted.dead  # a replay may repeat one


def letters_of(stage: Stage, topic: str) -> list[bytes]:
    partition = TopicPartition(topic, 0)
    keys: list[bytes] = []
    with KafkaConsumer(bootstrap_servers=stage.bootstrap_servers, auto_offset_reset="earliest") as consumer:
        consumer.assign([partition])
        end = consumer.end_offsets([partition])[partition]
        while consumer.position(partition) < end:
            keys += [record.key for record in consumer.poll(timeout_ms=1000).get(partition, [])]
    return keys
