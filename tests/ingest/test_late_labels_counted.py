"""Each late label is joined or dropped once, however often reading starts again in between."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from lethe.ingest.late_labels import LateLabels
from tests.support.batches import good
from tests.support.sources import MemoryRecord, MemorySource, Step

WAIT: Final = 10
AFTER_ALL: Final = MemoryRecord(0, 99, b"", [], timestamp=1_000_000, key=b"none")
"""A sample that comes so late that no earlier label can be one of a later sample."""


@dataclass(frozen=True)
class Streams:
    """Samples, and labels in two partitions, each in the order of their times."""

    samples: list[MemoryRecord]
    labels: dict[int, list[MemoryRecord]]


@st.composite
def streams(draw: st.DrawFn) -> Streams:
    """Samples and labels with keys of their own: some only here, some only there, some too late, some bad."""
    samples, labels = [], []
    for number in range(draw(st.integers(0, 15))):
        key, at = b"%d" % number, draw(st.integers(0, 60))
        kind = draw(st.sampled_from(["both", "both", "both", "sample", "label", "no key", "no value"]))
        if kind in {"both", "sample"}:
            samples.append((at, key))
        if kind != "sample":
            value = None if kind == "no value" else b"1"
            label_at = at + draw(st.integers(0, WAIT + 3))
            labels.append((label_at, None if kind == "no key" else key, value))
    records = [
        replace(good(0, offset), headers=[], key=key, timestamp=1000 * at)
        for offset, (at, key) in enumerate(sorted(samples))
    ]
    logs: dict[int, list[MemoryRecord]] = {0: [], 1: []}
    for at, its_key, value in sorted(labels, key=lambda label: label[0]):
        log = logs[draw(st.integers(0, 1))]
        partition = 0 if log is logs[0] else 1
        log.append(MemoryRecord(partition, len(log), value, [], 1000 * at, its_key))
    return Streams(records, logs)


@dataclass
class Reading:
    """Reads samples in their order as the batcher does, and counts at the end of each batch."""

    streams: Streams
    script: list[Step]
    next: int = 0
    joined: int = 0
    saved: tuple[int, dict[int, int], dict[int, str]] = (0, {}, {})
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.crash()

    def crash(self) -> None:
        """Begin anew, with nothing but what was saved."""
        source = MemorySource(self.streams.labels)
        source.script = self.script
        self.labels = LateLabels(lambda: source, WAIT, 100, lambda: 0.0)
        self.again()

    def again(self) -> None:
        """Read again from what was saved."""
        self.next, offsets, settled = self.saved
        self.joined = 0
        self.labels.read_from(offsets, settled)

    def poll(self) -> None:
        self.labels.poll()

    def release(self) -> None:
        self.labels.release()

    def take(self) -> None:
        """Take samples while the next one waits for no label."""
        while self.next < len(self.streams.samples):
            sample = self.streams.samples[self.next]
            if self.labels.awaits(sample, 0.0):
                break
            self.joined += self.labels.take(sample) is not None
            self.next += 1

    def save(self) -> None:
        """End a batch: what was dropped and joined is counted, and never again."""
        self.counts.update(self.labels.dropped())
        self.counts["joined"] += self.joined
        self.joined = 0
        self.saved = self.next, dict(self.labels.position), dict(self.labels.settled)

    def finish(self) -> Counter[str]:
        for _ in range(12):
            self.poll()
            self.take()
        self.labels.take(AFTER_ALL)
        self.save()
        return self.counts


ACTIONS: Final = st.lists(
    st.sampled_from(["poll", "poll", "take", "take", "save", "crash", "again", "release"])
)
ARRIVALS: Final = st.lists(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 4)), max_size=2), max_size=10)


@given(read=streams(), actions=ACTIONS, arrivals=ARRIVALS)
@settings(max_examples=300, deadline=None)
def test_counts_are_those_of_a_run_without_interruption(
    read: Streams, actions: list[str], arrivals: list[Step]
) -> None:
    reading = Reading(read, [*arrivals])
    for action in actions:
        getattr(reading, action)()
    counts = reading.finish()
    assert counts == Reading(read, []).finish()
    assert counts.total() == sum(map(len, read.labels.values()))


def test_a_label_that_was_joined_is_not_joined_again_although_an_earlier_one_waits() -> None:
    labels = [MemoryRecord(0, offset, b"1", [], key=key) for offset, key in enumerate((b"a", b"b"))]
    sample = replace(good(0, 0), headers=[], key=b"b")
    first = LateLabels(lambda: MemorySource({0: labels}), 10.0, 100, lambda: 0.0)
    first.read_from({})
    first.poll()
    assert first.take(sample) == b"1"
    assert first.position == {0: 0}
    second = LateLabels(lambda: MemorySource({0: labels}), 10.0, 100, lambda: 0.0)
    second.read_from(first.position, first.settled)
    second.poll()
    assert second.take(sample) is None
    assert second.take(replace(sample, key=b"a")) == b"1"
