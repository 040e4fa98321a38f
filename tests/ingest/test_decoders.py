"""Decoders: the batches are those of a reader that decodes by itself, and no image is left behind."""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from multiprocessing import Pipe, get_context
from types import SimpleNamespace
from typing import Final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lethe.errors import BrokerUnavailable, InvalidSetting, MalformedRecord, ReaderDied
from lethe.ingest.decoding.decoders import MESSAGE_VALUES, Decoders
from lethe.ingest.decoding.places import Places
from lethe.settings import BatchSettings
from lethe.stream.source import Position
from lethe.wire import PNG, Layout, Sample, encode
from tests.support.batches import LAYOUT, Made, Rig, bad, good, png
from tests.support.decoders import decoding
from tests.support.sources import Letters, MemoryRecord, Step

SMALL: Final = Layout(height=2, width=3)


def content(made: Made) -> tuple[object, ...]:
    """Everything but what depends on when records came."""
    filled = made.filled
    taken = (filled.first, filled.received, filled.dead, filled.lost, filled.skipped, filled.unlabelled)
    return made.samples, made.labels, filled.position, filled.places, filled.left, filled.produced, taken


def damaged(partition: int, offset: int) -> MemoryRecord:
    record = png(partition, offset)
    assert record.value is not None
    return replace(record, value=record.value[:-1])


def without_label(partition: int, offset: int) -> MemoryRecord:
    record = png(partition, offset)
    return replace(record, headers=[header for header in record.headers if header[0] != "label"])


KINDS: Final = {"png": png, "raw": good, "null": bad, "damaged": damaged, "without label": without_label}


@st.composite
def topics(draw: st.DrawFn) -> dict[int, list[MemoryRecord]]:
    """1 to 3 partitions of PNG, raw and malformed records, some offsets missing."""
    kinds = st.sampled_from(["png", "png", "png", *KINDS, "gap"])
    logs = {}
    for p in range(draw(st.integers(1, 3))):
        drawn = draw(st.lists(kinds, max_size=40))
        logs[p] = [KINDS[kind](p, offset) for offset, kind in enumerate(drawn) if kind != "gap"]
    return logs


STEPS: Final = st.lists(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), max_size=3)
    | st.builds(BrokerUnavailable, st.just("gone")),
    max_size=10,
)
TROUBLES: Final = st.lists(st.none() | st.builds(BrokerUnavailable, st.just("gone")), max_size=6)


@pytest.fixture(scope="module", params=[1, 2, 3])
def decoders(request: pytest.FixtureRequest) -> Iterator[Decoders]:
    with decoding(LAYOUT, request.param, samples=20) as (started, _):
        yield started


@given(
    logs=topics(),
    script=STEPS,
    troubles=TROUBLES,
    size=st.integers(1, 30),
    unlabelled=st.booleans(),
    until=st.none() | st.integers(1, 40),
)
@settings(max_examples=60, deadline=None)
def test_the_batches_and_the_dead_letters_are_the_same(
    decoders: Decoders,
    logs: dict[int, list[MemoryRecord]],
    script: list[Step],
    troubles: list[Exception | None],
    size: int,
    unlabelled: bool,
    until: int | None,
) -> None:
    ends = None if until is None else dict.fromkeys(logs, until)
    alone = Rig(logs, size=size, unlabelled=unlabelled, until=ends)
    expected = alone.batches()
    letters = Letters(troubles)
    rig = Rig(logs, script, size=size, unlabelled=unlabelled, until=ends, letters=letters, decoders=decoders)
    found = rig.batches()
    decoders.discard()  # as the reader does with a batcher that it drops
    assert [content(made) for made in found] == [content(made) for made in expected]
    assert rig.letters.sent == alone.letters.sent


def test_a_batcher_that_is_dropped_leaves_no_image_and_the_next_one_starts_anew() -> None:
    logs = {0: [png(0, offset) for offset in range(40)]}
    with decoding(LAYOUT, 2, samples=20) as (started, places):
        dropped = Rig(logs, size=7, decoders=started)
        assert dropped.fill() is not None
        started.discard()
        assert not places.x_PCHW.any()
        assert started.free == places.count
        rest = Rig(logs, size=7, position=Position({0: 7}), decoders=started).batches()
        assert [offset for made in rest for _, offset in made.samples] == list(range(7, 35))


def value(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(1, 256, SMALL.shape, np.uint8)
    return encode(Sample(pixels, 0), PNG)[0]


def test_an_image_is_zeros_once_it_was_taken() -> None:
    with decoding(SMALL, 1, samples=4) as (started, places):
        given = [started.give("png", value(seed)) for seed in range(4)]
        assert started.free == 0
        for one in given:
            assert started.pixels(one).all()
        started.release(given[2])
        assert not places.x_PCHW[given[2].place].any()
        assert [bool(places.x_PCHW[one.place].all()) for one in given] == [True, True, False, True]
        assert started.free == 1
        started.release(started.give("png", value(9)))  # unseen, because its label is malformed
        assert not places.x_PCHW[given[2].place].any()


def test_there_are_no_more_images_than_slots_have_places() -> None:
    with decoding(SMALL, 3, samples=10) as (_, places):
        assert places.count == 10
    with decoding(SMALL, 3, samples=1000) as (_, places):
        assert places.count == 96


def test_values_of_an_earlier_epoch_are_not_decoded() -> None:
    ours, theirs = Pipe()
    with decoding(SMALL, 1, samples=8) as (_, places):
        started = Decoders([ours], places)
        for seed in range(4):
            started.give("png", value(seed))
        started.send()
        epoch, values = theirs.recv()
        theirs.send(["skipped"] * len(values))
        started.discard()
        assert (epoch, places.epoch) == (0, 1)
        assert started.free == 8
        started.give("png", value(0))
        started.send()
        assert theirs.recv()[0] == 1


def test_the_reason_of_a_malformed_value_comes_back_as_often_as_asked() -> None:
    with decoding(SMALL, 2, samples=4) as (started, _):
        given = started.give("png", b"no picture")
        for _ in range(2):
            with pytest.raises(MalformedRecord) as raised:
                started.pixels(given)
            assert raised.value.reason == "undecodable"


def test_an_image_that_takes_too_long_is_malformed() -> None:
    with decoding(SMALL, 2, samples=4, seconds=0.0) as (started, places):
        with pytest.raises(MalformedRecord) as raised:
            started.pixels(started.give("png", value(0)))
        assert raised.value.reason == "too_costly"
        assert not places.x_PCHW.any()


def test_values_are_shared_out_among_the_decoders() -> None:
    pipes = [Pipe() for _ in range(3)]
    with decoding(SMALL, 3, samples=1000) as (_, places):
        started = Decoders([ours for ours, _ in pipes], places)
        for seed in range(6 * MESSAGE_VALUES):
            started.give("png", value(seed))
        got = [len(theirs.recv()[1]) + len(theirs.recv()[1]) for _, theirs in pipes]
    assert got == [2 * MESSAGE_VALUES] * 3


@pytest.mark.parametrize("when", ["idle", "waited for", "given a value"])
def test_the_end_of_a_decoder_is_noticed(when: str) -> None:
    pipes = [Pipe() for _ in range(2)]
    with decoding(SMALL, 2, samples=4) as (_, places):
        started = Decoders([ours for ours, _ in pipes], places)
        given = started.give("png", value(0))
        if when == "waited for":
            started.send()
        pipes[0][1].close()
        notice = started.check if when == "idle" else partial(started.pixels, given)
        with pytest.raises(ReaderDied, match="decoder 1 of 2 ended unexpectedly"):
            notice()


def test_there_has_to_be_shared_memory_for_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    none = SimpleNamespace(f_bavail=0, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: none)
    with pytest.raises(InvalidSetting, match=r"batch\.readers: the images that they decode need 48 bytes"):
        Places(SMALL, BatchSettings(readers=2, size=4, slots=2), get_context("spawn"))
