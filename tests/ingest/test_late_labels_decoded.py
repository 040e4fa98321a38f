"""Late labels where decoders decode ahead: the batches are those of a reader that decodes by itself."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lethe.errors import BrokerUnavailable
from lethe.ingest.decoding.decoders import Decoders
from lethe.ingest.late_labels import LateLabels
from lethe.stream.source import Position
from lethe.wire import Headers
from tests.support.batches import LAYOUT, Made, Rig, good, png
from tests.support.decoders import decoding
from tests.support.sources import Letters, MemoryRecord, MemorySource, Step

WAIT: Final = 3600.0
KINDS: Final = ("png", "png", "png", "raw", "damaged", "labelled", "gap")
LABELS: Final = ("its own", "its own", "its own", "no class", "none")


@dataclass(frozen=True)
class Streams:
    """A topic of samples, and one of their labels."""

    samples: dict[int, list[MemoryRecord]]
    labels: dict[int, list[MemoryRecord]]


def key(record: MemoryRecord) -> bytes:
    return b"%d-%d" % (record.partition, record.offset)


def sample(partition: int, offset: int, kind: str) -> MemoryRecord:
    """A record of a kind; only the labelled ones have a label."""
    record = (good if kind == "raw" else png)(partition, offset)
    assert record.value is not None
    headers: Headers = [header for header in record.headers if header[0] != "label" or kind == "labelled"]
    value = record.value[:-1] if kind == "damaged" else record.value
    return replace(record, value=value, headers=headers, key=key(record))


@st.composite
def streams(draw: st.DrawFn) -> Streams:
    """1 to 3 partitions of samples; labels in any order, in 1 or 2 partitions; some wrong or missing."""
    samples: dict[int, list[MemoryRecord]] = {}
    given_labels: list[tuple[bytes, bytes]] = []
    for p in range(draw(st.integers(1, 3))):
        kinds = draw(st.lists(st.sampled_from(KINDS), max_size=25))
        samples[p] = [sample(p, offset, kind) for offset, kind in enumerate(kinds) if kind != "gap"]
        for record in samples[p]:
            label = draw(st.sampled_from(LABELS))
            if label != "none":
                given_labels.append(
                    (key(record), b"cat" if label == "no class" else b"%d" % (record.offset % 10))
                )
    random.Random(draw(st.integers(0, 99))).shuffle(given_labels)
    labels: dict[int, list[MemoryRecord]] = {p: [] for p in range(draw(st.integers(1, 2)))}
    for number, (its_key, value) in enumerate(given_labels):
        log = labels[number % len(labels)]
        log.append(MemoryRecord(number % len(labels), len(log), value, [], 1000, its_key))
    return Streams(samples, labels)


@dataclass(frozen=True)
class Course:
    """How records and labels come, and what goes wrong meanwhile."""

    records: list[Step]
    labels: list[Step]
    troubles: list[Exception | None]
    """Of the dead letters."""
    drops: set[int]
    """Turns at which the reader starts again from the position."""


STEPS: Final = st.lists(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12)), max_size=3)
    | st.builds(BrokerUnavailable, st.just("gone")),
    max_size=8,
)
ARRIVALS: Final = st.lists(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 12)), max_size=2), max_size=8)
COURSES: Final = st.builds(
    Course,
    STEPS,
    ARRIVALS,
    st.lists(st.none() | st.builds(BrokerUnavailable, st.just("gone")), max_size=6),
    st.sets(st.integers(0, 12), max_size=3),
)


AT_ONCE: Final = Course([], [], [], set())
TURNS: Final = 250
PATIENT_TURNS: Final = 150
"""After so many, everything has come: each further one takes as long as a record waits."""


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Learned:
    """What came of two streams."""

    batches: list[object]
    dead: list[tuple[int, int, str]]
    """Partition, offset and reason of each dead letter."""


def learn(
    read: Streams, course: Course, size: int, decoders: Decoders | None, *, unlabelled: bool
) -> Learned:
    clock, letters = Clock(), Letters(course.troubles)
    labels = LateLabels(lambda: MemorySource(read.labels, course.labels), WAIT, 1000, clock)
    labels.read_from({})

    def rig(script: list[Step], position: Position | None = None) -> Rig:
        return Rig(
            read.samples,
            script,
            size=size,
            position=position,
            letters=letters,
            clock=clock,
            unlabelled=unlabelled,
            late=labels,
            decoders=decoders,
        )

    now = rig(course.records)
    made: list[object] = []
    for turn in range(TURNS):
        if turn in course.drops:
            if decoders is not None:
                decoders.discard()
            start = now.batcher.start.position
            labels.read_from(start.labels, start.labels_settled)
            now = rig(now.source.script, start)
        if turn > PATIENT_TURNS:
            clock.now += WAIT
        if now.batcher.awaits_label:
            labels.poll()
        if (batch := now.fill()) is not None:
            made.append(content(batch))
    if decoders is not None:
        decoders.discard()
    return Learned(made, letters.sent)


def content(made: Made) -> tuple[object, ...]:
    """Everything but how far labels were read, and when records came."""
    filled = made.filled
    taken = (filled.first, filled.received, filled.dead, filled.unlabelled, filled.joined)
    return made.samples, made.labels, filled.position, filled.places, taken


@pytest.fixture(scope="module", params=[1, 3])
def decoders(request: pytest.FixtureRequest) -> Iterator[Decoders]:
    with decoding(LAYOUT, request.param, samples=20) as (started, _):
        yield started


@given(read=streams(), course=COURSES, size=st.integers(1, 20), unlabelled=st.booleans())
@settings(max_examples=25, deadline=None)
def test_the_batches_and_the_dead_letters_are_the_same(
    decoders: Decoders, read: Streams, course: Course, size: int, unlabelled: bool
) -> None:
    undisturbed = learn(read, AT_ONCE, size, None, unlabelled=unlabelled)
    for reader in (None, decoders):
        found = learn(read, course, size, reader, unlabelled=unlabelled)
        assert found.batches == undisturbed.batches
        assert set(found.dead) == set(undisturbed.dead)


def test_images_that_wait_for_labels_leave_none_behind_when_they_are_dropped() -> None:
    records = [sample(0, offset, "png") for offset in range(40)]
    labels = LateLabels(lambda: MemorySource({0: []}), WAIT, 1000, Clock())
    labels.read_from({})
    with decoding(LAYOUT, 2, samples=20) as (started, places):
        waits = Rig({0: records}, size=4, late=labels, decoders=started)
        assert waits.fill() is None
        assert waits.batcher.awaits_label
        assert started.free < places.count, "images are decoded while their records wait"
        started.discard()
        assert not places.x_PCHW.any()
        assert started.free == places.count
