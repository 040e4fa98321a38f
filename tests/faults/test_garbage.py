"""Garbage in the stream: malformed records are counted exactly once, whenever the service is killed."""

import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import KafkaConsumer, TopicPartition

from lethe.checkpointing.checkpoint import read_checkpoint
from lethe.checkpointing.state_folder import checkpoint_files
from lethe.errors import MalformedRecord
from lethe.experiments.chaos.kill_loop import run_with_kills
from lethe.experiments.chaos.kill_plan import KillTime
from lethe.experiments.chaos.outcome import Outcome
from lethe.wire import Layout, decode
from tests.support.faults.learners import TWO_OFTEN
from tests.support.faults.services import SIZE, Forked, Stage, running
from tests.support.faults.topics import Fill, Outgoing, records
from tests.support.waiting import until

pytestmark = pytest.mark.needs("kafka")

FUZZED = 10_000
LAYOUT = Layout(height=SIZE, width=SIZE, max_bytes=4096)


def fuzzed(good: list[Outgoing], count: int, seed: int) -> list[Outgoing]:
    """Good records with random changes; some are still valid."""
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
    """A topic with 10,000 fuzzed records among good ones, and how many are malformed, by reason."""
    good = records("a", 600, 4)
    mixed = [*good, *fuzzed(good, FUZZED, 5)]
    random.Random(6).shuffle(mixed)
    return fill("garbage", mixed), Counter(map(reason, mixed))


@pytest.mark.parametrize("learner", TWO_OFTEN)
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
    run_with_kills(lambda: Forked(settings), [KillTime(samples, 0.0) for samples in (200, 400)])
    assert Outcome.of(tmp_path / "state") == wanted
    last = read_checkpoint(checkpoint_files(tmp_path / "state")[-1])
    assert isinstance(last.counts, dict)
    assert last.counts["dead"] == dead
    assert len(set(letters_of(stage, letters))) == wanted.dead  # a replay may repeat one


def test_a_stream_of_malformed_records_alone_is_counted_and_passed_and_reported_once(
    fill: Fill, topic: str, tmp_path: Path
) -> None:
    count = 2000
    stage = fill(topic, [(b"garbage", [])] * count)
    settings = stage.settings("ncm", tmp_path / "state", stream={"stop_after": None}, batch={"size": 64})
    for _ in range(2):
        with running(settings) as service:
            until(lambda alive=service: alive.count("dead_lettered") == count, "all are counted")
            until(lambda alive=service: alive.count("received") == count, "all are received")
            until(lambda alive=service: position(alive) == count, "it reports its position")
            service.send(signal.SIGTERM)
            assert service.status() == 0
    assert len(letters_of(stage, f"{topic}.dead-letters")) == count
    newest = read_checkpoint(checkpoint_files(tmp_path / "state")[-1])
    assert sum(newest.position.offsets.values()) == count


def test_malformed_records_behind_a_good_one_are_counted_and_after_a_kill_reported_once(
    fill: Fill, topic: str, tmp_path: Path
) -> None:
    good, bad = records("a", 1, 4), [(b"garbage", good_headers())] * 300
    stage = fill(topic, [*good, *good, *bad])
    settings = stage.settings(
        "ncm",
        tmp_path / "state",
        stream={"stop_after": None},
        batch={"size": 64},
        checkpoint={"every_samples": None, "every_seconds": 0.5},
    )
    for _ in range(2):
        with running(settings) as service:
            until(lambda alive=service: alive.count("dead_lettered") == 300, "all are counted")
            assert service.learned() == 0
            for _ in range(2):  # the first one may have been begun before they were counted
                written = service.metric("lethe_last_checkpoint_timestamp_seconds")
                until(
                    lambda alive=service, before=written: (
                        alive.metric("lethe_last_checkpoint_timestamp_seconds") > before
                    ),
                    "a checkpoint is written",
                )
            service.kill()
    assert len(letters_of(stage, f"{topic}.dead-letters")) == 300


def test_payloads_of_malformed_records_do_not_pile_up_in_the_feeder(
    fill: Fill, topic: str, tmp_path: Path
) -> None:
    stage = fill(topic, records("a", 2, 4))
    payload = random.Random(1).randbytes(900_000)
    stream = {"stop_after": None, "dead_letter_payloads": True}
    with running(stage.settings("ncm", tmp_path / "state", stream=stream)) as service:
        until(lambda: "the broker answers" in service.log, "it reads")
        before = service.metric("lethe_feeder_process_resident_memory_bytes")
        fill(topic, [(payload, [])] * 300)
        until(lambda: service.count("dead_lettered") == 300, "all are counted")
        grown = service.metric("lethe_feeder_process_resident_memory_bytes") - before
    assert grown < 160e6, "270 MB came through it"


def position(service: Forked) -> int:
    return sum(service.state()["positions"].values())


def good_headers() -> list[tuple[str, bytes]]:
    return records("a", 1, 4)[0][1]


def letters_of(stage: Stage, topic: str) -> list[bytes]:
    partition = TopicPartition(topic, 0)
    keys: list[bytes] = []
    with KafkaConsumer(bootstrap_servers=stage.bootstrap_servers, auto_offset_reset="earliest") as consumer:
        consumer.assign([partition])
        end = consumer.end_offsets([partition])[partition]
        while consumer.position(partition) < end:
            keys += [record.key for record in consumer.poll(timeout_ms=1000).get(partition, [])]
    return keys
