"""Decoding any record returns a sample or raises MalformedRecord.

Each run fuzzes for `BUDGET_SECONDS`, from another seed.
"""

import random
import struct
import time
import zlib
from collections.abc import Callable
from typing import Final

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from lethe.errors import MalformedRecord
from lethe.wire import PNG, RAW, Headers, Layout, Reason, decode
from tests.support.golden_pictures import GOLDEN_PICTURES
from tests.support.pngs import GREY_PNG, RGB_PNG, chunk

BUDGET_SECONDS: Final = 20.0
"""Time for all kinds of records together."""
ROUND: Final = settings(max_examples=300, database=None)
"""Examples between two checks of the time; hypothesis starts over after each."""

TINY = Layout(channels=1, height=2, width=3)
TINY_RGB = Layout(channels=3, height=2, width=3)
VECTOR = Layout(features=3)
PNG_HEADERS: Headers = [("content-type", b"image/png"), ("label", b"3")]


def read_or_refused(value: bytes | None, headers: Headers, layout: Layout) -> None:
    try:
        sample = decode(value, headers, layout)
    except MalformedRecord as error:
        reason: str | None = error.reason
    else:
        assert (sample.pixels.shape, sample.pixels.dtype) == (layout.shape, layout.dtype)
        assert np.isfinite(sample.pixels).all()
        assert 0 <= sample.label < layout.classes
        reason = None
    assert reason is None or reason in set(Reason)


NAMES = st.sampled_from(["content-type", "label", "dtype", "shape", "segment", "lethe-version", "ce_id"])
GOOD = st.sampled_from([RAW.encode(), PNG.encode(), b"3", b"uint8", b"float32", b"1,2,3", b"1", b"mnist"])
HEADERS = st.lists(st.tuples(NAMES | st.text(max_size=5), st.none() | GOOD | st.binary(max_size=40)))


@ROUND
@given(value=st.none() | st.binary(max_size=200), headers=HEADERS)
def any_record(value: bytes | None, headers: list[tuple[str, bytes | None]]) -> None:
    read_or_refused(value, headers, TINY)
    read_or_refused(value, headers, VECTOR)


@ROUND
@given(value=st.binary(min_size=12, max_size=12) | st.binary(max_size=20), headers=HEADERS)
def any_vector(value: bytes, headers: list[tuple[str, bytes | None]]) -> None:
    given = [("content-type", RAW.encode()), ("label", b"3"), ("dtype", b"float32"), ("shape", b"3")]
    read_or_refused(value, [*given, *headers], VECTOR)
    read_or_refused(value, given, VECTOR)


@ROUND
@given(
    golden=st.sampled_from([GREY_PNG, RGB_PNG]),
    places=st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=3),
    length=st.integers(0, 130),
)
def a_damaged_png(golden: bytes, places: list[tuple[int, int]], length: int) -> None:
    damaged = bytearray(golden)
    for place, byte in places:
        damaged[place % len(damaged)] = byte
    for layout in (TINY, TINY_RGB):
        read_or_refused(bytes(damaged[:length]), PNG_HEADERS, layout)


KINDS = st.sampled_from(
    [b"IHDR", b"IDAT", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"zTXt", b"iCCP", b"IEND"]
)
SMALL = st.sampled_from([0, 1, 2, 3, 4, 8, 16, 2**16, 2**31 - 1])
IHDRS = st.builds(
    lambda w, h, depth, color, interlace: struct.pack(">IIBBBBB", w, h, depth, color, 0, 0, interlace),
    SMALL,
    SMALL,
    st.sampled_from([1, 2, 4, 8, 16]),
    st.sampled_from([0, 2, 3, 4, 6]),
    st.sampled_from([0, 1]),
)


@ROUND
@given(
    header=IHDRS | st.just(GREY_PNG[16:29]),
    chunks=st.lists(
        st.tuples(KINDS, IHDRS | st.binary(max_size=40) | st.binary(max_size=40).map(zlib.compress)),
        max_size=6,
    ),
)
def chunks_in_any_order(header: bytes, chunks: list[tuple[bytes, bytes]]) -> None:
    value = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunk(*part) for part in chunks)
    read_or_refused(value, PNG_HEADERS, TINY)


ANY_FORMAT = [
    Layout(channels=channels, height=2, width=4, formats="png,jpeg,webp,raw", fit=fit)
    for channels in (1, 3)
    for fit in ("refuse", "convert", "resize")
]


@ROUND
@given(
    golden=st.sampled_from(sorted(GOLDEN_PICTURES)),
    places=st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), max_size=4),
    inserted=st.binary(max_size=20),
    length=st.integers(0, 1000),
    whole=st.booleans(),
)
def a_damaged_picture(
    golden: tuple[bytes, bytes], places: list[tuple[int, int]], inserted: bytes, length: int, whole: bool
) -> None:
    content_type, value = golden
    damaged = bytearray(value)
    for place, byte in places:
        damaged[place % len(damaged)] = byte
    at = length % len(damaged)
    damaged[at:at] = inserted
    headers: Headers = [("content-type", content_type), ("label", b"3")]
    for layout in ANY_FORMAT:
        read_or_refused(bytes(damaged if whole else damaged[:length]), headers, layout)


KINDS_OF_RECORDS: Final = (any_record, any_vector, a_damaged_png, chunks_in_any_order, a_damaged_picture)


@pytest.mark.parametrize("records", KINDS_OF_RECORDS, ids=lambda records: records.__name__)
def test_fuzzed_records_are_samples_or_refused(
    records: Callable[[], None],
) -> None:
    begin, rounds = random.SystemRandom().getrandbits(32), 0
    deadline = time.monotonic() + BUDGET_SECONDS / len(KINDS_OF_RECORDS)
    while time.monotonic() < deadline:
        seed(begin + rounds)(records)()  # a falsifying example is printed whole
        rounds += 1
    assert rounds
