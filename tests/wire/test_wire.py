"""The wire format: golden bytes, and a reason for everything that is not a valid sample."""

import io
import json
import subprocess
import sys
import time
import tracemalloc
import zlib
from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from lethe.errors import MalformedRecord
from lethe.wire import PNG, RAW, Headers, Layout, Pixels, Reason, Sample, decode, encode
from tests.support.pngs import GREY_PNG, RGB_PNG, chunk, png

TINY = Layout(channels=1, height=2, width=3)
TINY_RGB = Layout(channels=3, height=2, width=3)
VECTOR = Layout(features=3)

GOLDEN_GREY = np.array([[[0, 1, 2], [253, 254, 255]]], np.uint8)
GOLDEN_RGB = np.arange(10, 190, 10, dtype=np.uint8).reshape(3, 2, 3)


def rows_of(pixels: Pixels) -> bytes:
    """The pixels as PNG stores them: a filter byte, then the row, channels last."""
    return b"".join(b"\0" + row.tobytes() for row in pixels.transpose(1, 2, 0))


def raw_headers(**changes: bytes | None) -> list[tuple[str, bytes | None]]:
    headers: dict[str, bytes | None] = {
        "content-type": b"application/octet-stream",
        "label": b"3",
        "dtype": b"uint8",
        "shape": b"1,2,3",
    }
    return list((headers | {name.replace("_", "-"): value for name, value in changes.items()}).items())


def without(name: str) -> list[tuple[str, bytes | None]]:
    return [(key, value) for key, value in raw_headers() if key != name]


PNG_HEADERS: Headers = [("content-type", b"image/png"), ("label", b"3")]


def rejection(value: bytes | None, headers: Headers, layout: Layout = TINY) -> MalformedRecord:
    with pytest.raises(MalformedRecord) as refused:
        decode(value, headers, layout)
    return refused.value


def test_the_bytes_of_a_raw_record_never_change() -> None:
    assert encode(Sample(GOLDEN_GREY, 7, "mnist")) == (
        b"\x00\x01\x02\xfd\xfe\xff",
        [
            ("content-type", b"application/octet-stream"),
            ("label", b"7"),
            ("dtype", b"uint8"),
            ("shape", b"1,2,3"),
            ("segment", b"mnist"),
        ],
    )


def test_the_headers_of_a_png_record_never_change() -> None:
    _, headers = encode(Sample(GOLDEN_GREY, 7), PNG)
    assert headers == [("content-type", b"image/png"), ("label", b"7")]


@pytest.mark.parametrize(
    ("value", "layout", "pixels"),
    [(GREY_PNG, TINY, GOLDEN_GREY), (RGB_PNG, TINY_RGB, GOLDEN_RGB)],
    ids=["grey", "rgb"],
)
def test_a_golden_png_is_read_as_these_pixels(value: bytes, layout: Layout, pixels: Pixels) -> None:
    sample = decode(value, [("content-type", b"image/png"), ("label", b"3")], layout)
    assert (sample.label, sample.segment, sample.pixels.dtype.name) == (3, None, "uint8")
    np.testing.assert_array_equal(sample.pixels, pixels)


def test_raw_bytes_are_read_channel_by_channel_and_row_by_row() -> None:
    sample = decode(GOLDEN_RGB.tobytes(), raw_headers(shape=b"3,2,3", segment=b"mnist"), TINY_RGB)
    assert sample.segment == "mnist"
    np.testing.assert_array_equal(sample.pixels, GOLDEN_RGB)


@given(
    data=st.data(),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    label=st.integers(0, 9),
    segment=st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64),
    content_type=st.sampled_from([RAW, PNG]),
)
def test_every_sample_is_decoded_as_it_was_encoded(
    data: st.DataObject,
    channels: int,
    height: int,
    width: int,
    label: int,
    segment: str | None,
    content_type: str,
) -> None:
    layout = Layout(channels=channels, height=height, width=width)
    value = data.draw(st.binary(min_size=layout.size, max_size=layout.size))
    sent = Sample(np.frombuffer(value, np.uint8).reshape(layout.shape), label, segment)
    back = decode(*encode(sent, content_type), layout)
    assert (back.label, back.segment) == (label, segment)
    assert back.pixels.flags.c_contiguous
    np.testing.assert_array_equal(back.pixels, sent.pixels)


def test_what_a_layout_says_of_one_sample() -> None:
    assert (TINY_RGB.shape, TINY_RGB.size, TINY_RGB.header) == ((3, 2, 3), 18, b"3,2,3")


def test_only_png_and_raw_are_encoded() -> None:
    with pytest.raises(ValueError, match="image/jpeg"):
        encode(Sample(GOLDEN_GREY, 7), "image/jpeg")


def test_a_png_has_one_channel_or_three() -> None:
    with pytest.raises(ValueError, match="2 channels"):
        encode(Sample(np.zeros((2, 2, 2), np.uint8), 7), PNG)


def test_a_record_without_a_version_has_version_1() -> None:
    decode(b"123456", raw_headers(lethe_version=b"1"), TINY)
    decode(b"123456", raw_headers(), TINY)


def vector_headers(**changes: bytes | None) -> list[tuple[str, bytes | None]]:
    return raw_headers(**{"dtype": b"float32", "shape": b"3", **changes})


def test_the_bytes_of_a_vector_never_change() -> None:
    headers = [
        ("content-type", b"application/octet-stream"),
        ("label", b"7"),
        ("dtype", b"float32"),
        ("shape", b"3"),
        ("segment", b"before"),
    ]
    golden = np.array([0.5, -1.0, 256.0], np.float32)
    value = bytes.fromhex("0000003f 000080bf 00008043")
    assert encode(Sample(golden, 7, "before")) == (value, headers)
    assert encode(Sample(golden.astype(">f4"), 7, "before")) == (value, headers)
    sample = decode(value, headers, VECTOR)
    assert (sample.label, sample.segment, sample.pixels.dtype.name) == (7, "before", "float32")
    np.testing.assert_array_equal(sample.pixels, golden)


@given(
    numbers=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=40),
    label=st.integers(0, 9),
)
def test_every_vector_is_decoded_as_it_was_encoded(numbers: list[float], label: int) -> None:
    sent = Sample(np.array(numbers, np.float32), label)
    back = decode(*encode(sent), Layout(features=len(numbers)))
    assert (back.label, back.pixels.tobytes()) == (label, sent.pixels.tobytes())


FINITE = np.ones(3, np.float32)


def with_number(number: float) -> bytes:
    return np.array([1, number, 1], "<f4").tobytes()


REFUSED_VECTORS: list[tuple[Reason, bytes, Headers, str]] = [
    (Reason.NOT_FINITE, with_number(np.nan), vector_headers(), "not every number is finite"),
    (Reason.NOT_FINITE, with_number(np.inf), vector_headers(), "not every number is finite"),
    (Reason.NOT_FINITE, with_number(-np.inf), vector_headers(), "not every number is finite"),
    (Reason.WRONG_SHAPE, bytes(11), vector_headers(), "11 bytes, but shape 3 has 12"),
    (Reason.WRONG_SHAPE, bytes(12), vector_headers(shape=b"1,1,3"), "shape is not 3"),
    (Reason.WRONG_DTYPE, bytes(12), vector_headers(dtype=b"float64"), "dtype is not float32"),
    (Reason.WRONG_DTYPE, bytes(3), vector_headers(dtype=b"uint8"), "dtype is not float32"),
    (Reason.MISSING_HEADER, bytes(12), vector_headers(dtype=None), "dtype"),
    (Reason.CONTENT_TYPE, GREY_PNG, PNG_HEADERS, "is not one of application/octet-stream"),
]


@pytest.mark.parametrize(("reason", "value", "headers", "detail"), REFUSED_VECTORS)
def test_a_malformed_vector_is_refused_with_a_reason(
    reason: Reason, value: bytes, headers: Headers, detail: str
) -> None:
    error = rejection(value, headers, VECTOR)
    assert error.reason == reason
    assert detail in error.detail


def test_a_png_holds_no_vector() -> None:
    with pytest.raises(ValueError, match="a vector is application/octet-stream"):
        encode(Sample(FINITE, 7), PNG)


def test_a_layout_is_of_images_or_of_vectors() -> None:
    assert (VECTOR.shape, VECTOR.size, VECTOR.nbytes, VECTOR.header) == ((3,), 3, 12, b"3")
    assert Layout.model_validate(VECTOR.model_dump()) == VECTOR
    with pytest.raises(ValidationError, match=r"sample\.features is for vectors, sample\.width for images"):
        Layout(features=3, width=3)


def test_other_headers_are_ignored() -> None:
    sample = decode(b"123456", [*raw_headers(ce_id=b"\xff", traceparent=None), ("", b"")], TINY)
    assert sample.label == 3


def test_of_two_headers_of_one_name_the_last_counts() -> None:
    assert decode(b"123456", [*raw_headers(), ("label", b"5")], TINY).label == 5
    assert rejection(b"123456", [*raw_headers(), ("label", None)]).reason == Reason.MISSING_HEADER


REFUSED: list[tuple[Reason, str, bytes | None, Headers, str]] = [
    (Reason.NULL_VALUE, "a tombstone", None, raw_headers(), "no value"),
    (Reason.OVERSIZED, "one byte more than is taken", bytes(TINY.max_bytes + 1), raw_headers(), "1048577"),
    (Reason.MISSING_HEADER, "no headers", b"123456", [], "label"),
    (Reason.MISSING_HEADER, "no label", b"123456", without("label"), "label"),
    (Reason.MISSING_HEADER, "no content type", b"123456", without("content-type"), "content-type"),
    (Reason.MISSING_HEADER, "no dtype", b"123456", without("dtype"), "dtype"),
    (Reason.MISSING_HEADER, "no shape", b"123456", without("shape"), "shape"),
    (Reason.MISSING_HEADER, "a header without a value", b"123456", raw_headers(shape=None), "shape"),
    (Reason.BAD_HEADER, "a negative label", b"123456", raw_headers(label=b"-1"), "label"),
    (Reason.BAD_HEADER, "an empty label", b"123456", raw_headers(label=b""), "label"),
    (Reason.BAD_HEADER, "a label with spaces", b"123456", raw_headers(label=b" 3"), "label"),
    (Reason.BAD_HEADER, "a label in words", b"123456", raw_headers(label=b"three"), "label is not a decimal"),
    (Reason.BAD_HEADER, "Arabic digits", b"123456", raw_headers(label="٣".encode()), "label"),
    (Reason.BAD_HEADER, "a label too long to be one", b"123456", raw_headers(label=b"1" * 5000), "label"),
    (Reason.BAD_HEADER, "a segment that is not UTF-8", b"123456", raw_headers(segment=b"\xff"), "UTF-8"),
    (Reason.BAD_HEADER, "an empty segment", b"123456", raw_headers(segment=b""), "1 to 64 characters"),
    (
        Reason.BAD_HEADER,
        "a segment too long",
        b"123456",
        raw_headers(segment=b"s" * 65),
        "1 to 64 characters",
    ),
    (
        Reason.UNSUPPORTED_VERSION,
        "version 2",
        b"123456",
        raw_headers(lethe_version=b"2"),
        "lethe-version is not 1",
    ),
    (
        Reason.UNSUPPORTED_VERSION,
        "no version",
        b"123456",
        raw_headers(lethe_version=None),
        "lethe-version is not 1",
    ),
    (Reason.CONTENT_TYPE, "a JPEG", b"123456", raw_headers(content_type=b"image/jpeg"), "image/png"),
    (Reason.CONTENT_TYPE, "no type at all", b"123456", raw_headers(content_type=b";"), "is not one of"),
    (Reason.UNDECODABLE, "an empty PNG", b"", PNG_HEADERS, "not a PNG"),
    (Reason.UNDECODABLE, "text for a PNG", b"three", PNG_HEADERS, "not a PNG"),
    (
        Reason.UNDECODABLE,
        "a PNG of a depth that there is not",
        png(3, 2, bytes(8), depth=3),
        PNG_HEADERS,
        "IHDR",
    ),
    (Reason.DAMAGED, "half a PNG", GREY_PNG[:-30], PNG_HEADERS, "ends before"),
    (
        Reason.TOO_COSTLY,
        "many chunks",
        png(3, 2, bytes(8), extra=chunk(b"teXt", b"") * 100),
        PNG_HEADERS,
        "chunks",
    ),
    (Reason.UNDECODABLE, "a PNG of nothing", png(0, 0, b""), PNG_HEADERS, "not a valid PNG"),
    (Reason.WRONG_SHAPE, "a PNG of 2^62 pixels", png(2**31 - 1, 2**31 - 1, b""), PNG_HEADERS, "another size"),
    (Reason.UNDECODABLE, "a GIF", b"GIF89a\x03\x00\x02\x00\x00\x00\x00;", PNG_HEADERS, "not a PNG"),
    (Reason.WRONG_SHAPE, "another shape", b"123456", raw_headers(shape=b"1,3,2"), "shape is not 1,2,3"),
    (
        Reason.WRONG_SHAPE,
        "a shape with spaces",
        b"123456",
        raw_headers(shape=b"1, 2, 3"),
        "shape is not 1,2,3",
    ),
    (Reason.WRONG_SHAPE, "five bytes for six", b"12345", raw_headers(), "5 bytes"),
    (Reason.WRONG_SHAPE, "seven bytes for six", b"1234567", raw_headers(), "7 bytes"),
    (Reason.WRONG_SHAPE, "no bytes", b"", raw_headers(), "0 bytes"),
    (Reason.WRONG_SHAPE, "a PNG on its side", png(2, 3, bytes(9)), PNG_HEADERS, "3×2"),
    (Reason.WRONG_SHAPE, "a PNG of 100 megapixels", png(10**4, 10**4, b""), PNG_HEADERS, "another size"),
    (Reason.WRONG_SHAPE, "a colour PNG", png(3, 2, bytes(20), color=2), PNG_HEADERS, "RGB"),
    (
        Reason.WRONG_SHAPE,
        "a PNG with a palette",
        png(3, 2, bytes(8), color=3, extra=chunk(b"PLTE", bytes(3))),
        PNG_HEADERS,
        "mode P",
    ),
    (Reason.WRONG_SHAPE, "a PNG with alpha", png(3, 2, bytes(14), color=4), PNG_HEADERS, "LA"),
    (Reason.WRONG_DTYPE, "a PNG in black and white", png(3, 2, bytes(4), depth=1), PNG_HEADERS, "1 bits"),
    (Reason.WRONG_DTYPE, "floats", b"123456", raw_headers(dtype=b"float32"), "dtype is not uint8"),
    (
        Reason.WRONG_DTYPE,
        "a PNG of 16 bits",
        png(3, 2, bytes(14), depth=16),
        PNG_HEADERS,
        "bits per channel, expected 8",
    ),
    (
        Reason.WRONG_DTYPE,
        "a PNG of 2 bits",
        png(3, 2, bytes(4), depth=2),
        PNG_HEADERS,
        "bits per channel, expected 8",
    ),
    (Reason.LABEL_OUT_OF_RANGE, "a label too many", b"123456", raw_headers(label=b"10"), "above 9"),
]


@pytest.mark.parametrize(
    ("reason", "value", "headers", "detail"),
    [(reason, value, headers, detail) for reason, _, value, headers, detail in REFUSED],
    ids=[name for _, name, *_ in REFUSED],
)
def test_a_malformed_record_is_refused_with_a_reason(
    reason: Reason, value: bytes | None, headers: Headers, detail: str
) -> None:
    error = rejection(value, headers)
    assert error.reason == reason
    assert detail in error.detail


def test_every_reason_is_provoked() -> None:
    assert {reason for reason, *_ in [*REFUSED, *REFUSED_VECTORS]} == set(Reason)


def test_a_colour_png_of_16_bits_is_refused_rather_than_halved() -> None:
    value = png(3, 2, bytes(2 * 19), depth=16, color=2)
    assert rejection(value, PNG_HEADERS, TINY_RGB).reason == Reason.WRONG_DTYPE


@given(
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 17),
    width=st.integers(1, 17),
    more=st.sampled_from([0, -1, 1]),
    seed=st.integers(0, 99),
)
def test_an_interlaced_png_is_read_if_all_its_passes_are_whole(
    channels: int, height: int, width: int, more: int, seed: int
) -> None:
    layout = Layout(channels=channels, height=height, width=width)
    pixels = np.random.default_rng(seed).integers(0, 256, layout.shape, np.uint8)
    starts = [(0, 0), (0, 4), (4, 0), (0, 2), (2, 0), (0, 1), (1, 0)]
    steps = [(8, 8), (8, 8), (8, 4), (4, 4), (4, 2), (2, 2), (2, 1)]
    passes = [pixels[:, y::down, x::right] for (y, x), (down, right) in zip(starts, steps, strict=True)]
    rows = b"".join(rows_of(part) for part in passes if part.size)
    rows = rows + b"\0" if more > 0 else rows[: len(rows) + more]
    value = png(width, height, rows, color=0 if channels == 1 else 2, interlace=1)
    if more:
        assert rejection(value, PNG_HEADERS, layout).reason == Reason.DAMAGED
    else:
        np.testing.assert_array_equal(decode(value, PNG_HEADERS, layout).pixels, pixels)


@pytest.mark.parametrize("compress_level", [0, 9])
@pytest.mark.parametrize("shape", [(1, 300, 400), (3, 131, 250)], ids=["grey", "rgb"])
def test_a_png_of_any_encoder_is_read_as_pillow_reads_it(
    shape: tuple[int, int, int], compress_level: int
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    plane = pixels[0] if shape[0] == 1 else pixels.transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(plane).save(buffer, "PNG", compress_level=compress_level, dpi=(72, 72), icc_profile=b"p")
    value = buffer.getvalue()
    assert value.count(b"IDAT") > 1
    layout = Layout(channels=shape[0], height=shape[1], width=shape[2])
    np.testing.assert_array_equal(decode(value, PNG_HEADERS, layout).pixels, pixels)


SOUND: Final = png(
    3, 2, rows_of(GOLDEN_GREY), extra=chunk(b"tEXt", b"Title\0an image") + chunk(b"pHYs", bytes(9))
)


@given(
    pixels=st.binary(min_size=48, max_size=48),
    content_type=st.sampled_from(["L", "RGB"]),
    place=st.integers(0, 10**6),
    bits=st.integers(1, 255),
)
def test_a_png_with_a_changed_byte_is_refused(
    pixels: bytes, content_type: str, place: int, bits: int
) -> None:
    channels = len(content_type)
    layout = Layout(channels=channels, height=4, width=12 // channels)
    value, headers = encode(Sample(np.frombuffer(pixels, np.uint8).reshape(layout.shape), 3), PNG)
    decode(value, headers, layout)
    damaged = bytearray(value)
    damaged[place % len(value)] ^= bits
    assert rejection(bytes(damaged), headers, layout).reason in {Reason.DAMAGED, Reason.UNDECODABLE}


def test_each_flipped_bit_of_a_png_is_found() -> None:
    decode(SOUND, PNG_HEADERS, TINY)
    for bit in range(8 * len(SOUND)):
        damaged = bytearray(SOUND)
        damaged[bit // 8] ^= 1 << bit % 8
        assert rejection(bytes(damaged), PNG_HEADERS).reason in {Reason.DAMAGED, Reason.UNDECODABLE}


def built(*chunks: tuple[bytes, bytes]) -> bytes:
    return GREY_PNG[:33] + b"".join(chunk(*part) for part in chunks)


ROWS: Final = zlib.compress(rows_of(GOLDEN_GREY))
IDAT, IEND = (b"IDAT", ROWS), (b"IEND", b"")
CONTRADICTIONS = {
    "a row too few": png(3, 2, rows_of(GOLDEN_GREY)[:4]),
    "a pixel too few": png(3, 2, rows_of(GOLDEN_GREY)[:-1]),
    "a byte too many": png(3, 2, rows_of(GOLDEN_GREY) + b"\0"),
    "no rows": png(3, 2, b""),
    "an unknown filter": png(3, 2, b"\5\0\1\2" + rows_of(GOLDEN_GREY)[4:]),
    "another checksum of the rows": built((b"IDAT", ROWS[:-1] + bytes([ROWS[-1] ^ 1])), IEND),
    "no checksum of the rows": built((b"IDAT", ROWS[:-4]), IEND),
    "half of it": built((b"IDAT", ROWS[:-1]), IEND),
    "something behind the rows": built((b"IDAT", ROWS + b"\0"), IEND),
    "something behind the rows, in a chunk of its own": built(IDAT, (b"IDAT", b"\0"), IEND),
    "rows that are not compressed": built((b"IDAT", rows_of(GOLDEN_GREY)), IEND),
    "two images": built(IDAT, IDAT, IEND),
    "image data in two places": built((b"IDAT", ROWS[:5]), (b"tEXt", b"a\0b"), (b"IDAT", ROWS[5:]), IEND),
    "no image data": built(IEND),
    "no end": built(IDAT),
    "something behind the end": built(IDAT, IEND) + b"\0",
    "a chunk behind the end": built(IDAT, IEND, (b"tEXt", b"a\0b")),
    "two ends": built(IDAT, IEND, IEND),
    "something in the end": built(IDAT, (b"IEND", b"\0")),
    "two headers": built((b"IHDR", GREY_PNG[16:29]), IDAT, IEND),
    "a header at the end": GREY_PNG[:8] + chunk(*IDAT) + GREY_PNG[8:33] + chunk(*IEND),
    "no header": GREY_PNG[:8] + chunk(*IDAT) + chunk(*IEND),
    "a header too short": GREY_PNG[:8] + chunk(b"IHDR", bytes(12)) + chunk(*IDAT) + chunk(*IEND),
    "an unknown chunk that is needed": built((b"NEED", b""), IDAT, IEND),
    "a chunk longer than the file": built(IDAT)[:-4] + b"\xff\xff\xff\xff" + chunk(*IEND),
}


@pytest.mark.parametrize("value", CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
def test_a_png_that_contradicts_itself_is_refused(value: bytes) -> None:
    assert rejection(value, PNG_HEADERS).reason == Reason.DAMAGED


def test_image_data_may_lie_in_many_chunks_also_empty_ones() -> None:
    parts = [(b"IDAT", ROWS[i : i + 1]) for i in range(len(ROWS))]
    value = built((b"PLTE", bytes(3)), (b"IDAT", b""), *parts, (b"tEXt", b"a\0b"), IEND)
    np.testing.assert_array_equal(decode(value, PNG_HEADERS, TINY).pixels, GOLDEN_GREY)


def test_an_animated_png_is_read_as_its_first_image() -> None:
    animated = png(3, 2, rows_of(GOLDEN_GREY), extra=chunk(b"acTL", bytes(8)))
    np.testing.assert_array_equal(decode(animated, PNG_HEADERS, TINY).pixels, GOLDEN_GREY)


def test_a_png_of_four_channels_is_refused_by_name() -> None:
    layout = Layout(channels=4, height=2, width=3)
    error = rejection(png(3, 2, bytes(26), color=6), PNG_HEADERS, layout)
    assert (error.reason, error.detail) == (Reason.WRONG_SHAPE, "PNG of mode RGBA, expected none")


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_compressed_data_besides_the_image_is_never_inflated(kind: bytes) -> None:
    # 60 times 1 MB: Pillow inflates all of them, and each image like this one takes it a tenth of a second
    comment = chunk(kind, b"c\0\0" + zlib.compress(bytes(10**6), 9))
    value = png(3, 2, rows_of(GOLDEN_GREY), extra=comment * 60)
    began = time.process_time()
    for _ in range(20):
        np.testing.assert_array_equal(decode(value, PNG_HEADERS, TINY).pixels, GOLDEN_GREY)
    assert time.process_time() - began < 0.5


def test_no_more_is_inflated_than_the_header_says() -> None:
    bomb = png(3, 2, bytes(10**8))
    tracemalloc.start()
    try:
        assert rejection(bomb, PNG_HEADERS).reason == Reason.DAMAGED
        assert tracemalloc.get_traced_memory()[1] < 4 * len(bomb)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["label", "content-type", "dtype", "shape", "lethe-version", "segment"])
def test_a_detail_never_depends_on_the_content(name: str) -> None:
    sent = [b"\xffMaria", b"\xff\x00\n" * 5000, b"\xff1"]
    details = {rejection(b"123456", [*raw_headers(), (name, value)]).detail for value in sent}
    assert len(details) == 1
    assert name in details.pop()
    large = {
        rejection(b"123456", raw_headers(label=value)).detail for value in (b"10", b"4711", b"999999999")
    }
    assert large == {"label is above 9"}


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64))
def test_unknown_segment_names_are_dropped(text: str) -> None:
    headers = raw_headers(segment=text.encode())
    assert decode(b"123456", headers, TINY).segment == text
    assert decode(b"123456", headers, TINY, {"mnist", text}).segment == text
    assert decode(b"123456", headers, TINY, {"mnist", text + "-"}).segment is None
    assert decode(b"123456", headers, TINY, ()).segment is None


def test_a_producer_needs_neither_torch_nor_kafka() -> None:
    program = "import json, sys, lethe.wire; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert "numpy" in loaded
    assert not loaded & {"torch", "torchvision", "kafka", "confluent_kafka"}
