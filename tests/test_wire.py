"""The wire contract: its bytes, its reasons, and that nothing but a sample gets through."""

import json
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import MalformedRecord
from service.wire import PNG, RAW, Headers, Layout, Pixels, Reason, Sample, decode, encode
from tests.pngs import GREY_PNG, RGB_PNG, chunk, png

TINY = Layout(channels=1, height=2, width=3)
TINY_RGB = Layout(channels=3, height=2, width=3)

GOLDEN_GREY = np.array([[[0, 1, 2], [253, 254, 255]]], np.uint8)
GOLDEN_RGB = np.arange(10, 190, 10, dtype=np.uint8).reshape(3, 2, 3)


def rows_of(pixels: Pixels) -> bytes:
    """The pixels as PNG keeps them: a filter byte, then the row, channels last."""
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


def refusal(value: bytes | None, headers: Headers, layout: Layout = TINY) -> MalformedRecord:
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
def test_every_sample_comes_back_as_it_was_sent(
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


def test_version_1_is_what_a_record_without_a_version_is() -> None:
    decode(b"123456", raw_headers(lethe_version=b"1"), TINY)
    decode(b"123456", raw_headers(), TINY)


def test_other_headers_are_ignored() -> None:
    sample = decode(b"123456", [*raw_headers(ce_id=b"\xff", traceparent=None), ("", b"")], TINY)
    assert sample.label == 3


def test_of_two_headers_of_one_name_the_last_counts() -> None:
    assert decode(b"123456", [*raw_headers(), ("label", b"5")], TINY).label == 5
    assert refusal(b"123456", [*raw_headers(), ("label", None)]).reason == Reason.MISSING_HEADER


REFUSED: list[tuple[Reason, str, bytes | None, Headers, str]] = [
    (Reason.NULL_VALUE, "a tombstone", None, raw_headers(), "no value"),
    (Reason.OVERSIZED, "one byte more than is taken", bytes(TINY.max_bytes + 1), raw_headers(), "1048577"),
    (Reason.MISSING_HEADER, "no headers", b"123456", [], "label"),
    (Reason.MISSING_HEADER, "no label", b"123456", without("label"), "label"),
    (Reason.MISSING_HEADER, "no content type", b"123456", without("content-type"), "content-type"),
    (Reason.MISSING_HEADER, "no dtype", b"123456", without("dtype"), "dtype"),
    (Reason.MISSING_HEADER, "no shape", b"123456", without("shape"), "shape"),
    (Reason.MISSING_HEADER, "a header without a value", b"123456", raw_headers(shape=None), "shape"),
    (Reason.BAD_HEADER, "a negative label", b"123456", raw_headers(label=b"-1"), "'-1'"),
    (Reason.BAD_HEADER, "an empty label", b"123456", raw_headers(label=b""), "''"),
    (Reason.BAD_HEADER, "a label with spaces", b"123456", raw_headers(label=b" 3"), "' 3'"),
    (Reason.BAD_HEADER, "a label in words", b"123456", raw_headers(label=b"three"), "'three'"),
    (Reason.BAD_HEADER, "Arabic digits", b"123456", raw_headers(label="٣".encode()), "label"),
    (Reason.BAD_HEADER, "a label too long to be one", b"123456", raw_headers(label=b"1" * 5000), "label"),
    (Reason.BAD_HEADER, "a segment that is not UTF-8", b"123456", raw_headers(segment=b"\xff"), "UTF-8"),
    (Reason.BAD_HEADER, "an empty segment", b"123456", raw_headers(segment=b""), "0 characters"),
    (Reason.BAD_HEADER, "a segment too long", b"123456", raw_headers(segment=b"s" * 65), "65 characters"),
    (Reason.UNSUPPORTED_VERSION, "version 2", b"123456", raw_headers(lethe_version=b"2"), "'2'"),
    (Reason.UNSUPPORTED_VERSION, "no version", b"123456", raw_headers(lethe_version=None), "without a value"),
    (Reason.CONTENT_TYPE, "a JPEG", b"123456", raw_headers(content_type=b"image/jpeg"), "image/jpeg"),
    (Reason.CONTENT_TYPE, "PNG in capitals", b"123456", raw_headers(content_type=b"IMAGE/PNG"), "IMAGE"),
    (Reason.UNDECODABLE, "an empty PNG", b"", PNG_HEADERS, "not a PNG"),
    (Reason.UNDECODABLE, "text for a PNG", b"three", PNG_HEADERS, "not a PNG"),
    (Reason.UNDECODABLE, "half a PNG", GREY_PNG[:-30], PNG_HEADERS, "not a PNG"),
    (Reason.UNDECODABLE, "a PNG without pixels", png(3, 2, b""), PNG_HEADERS, "not a PNG"),
    (Reason.UNDECODABLE, "a PNG of nothing", png(0, 0, b""), PNG_HEADERS, "not a PNG"),
    (Reason.UNDECODABLE, "a PNG of 2^62 pixels", png(2**31 - 1, 2**31 - 1, b""), PNG_HEADERS, "Bomb"),
    (Reason.UNDECODABLE, "a GIF", b"GIF89a\x03\x00\x02\x00\x00\x00\x00;", PNG_HEADERS, "not a PNG"),
    (Reason.WRONG_SHAPE, "another shape", b"123456", raw_headers(shape=b"1,3,2"), "1,2,3 is taken"),
    (Reason.WRONG_SHAPE, "a shape with spaces", b"123456", raw_headers(shape=b"1, 2, 3"), "1,2,3 is taken"),
    (Reason.WRONG_SHAPE, "five bytes for six", b"12345", raw_headers(), "5 bytes"),
    (Reason.WRONG_SHAPE, "seven bytes for six", b"1234567", raw_headers(), "7 bytes"),
    (Reason.WRONG_SHAPE, "no bytes", b"", raw_headers(), "0 bytes"),
    (Reason.WRONG_SHAPE, "a PNG on its side", png(2, 3, bytes(9)), PNG_HEADERS, "3×2"),
    (Reason.WRONG_SHAPE, "a PNG of 100 megapixels", png(10**4, 10**4, b""), PNG_HEADERS, "10000×10000"),
    (Reason.WRONG_SHAPE, "a colour PNG", png(3, 2, bytes(20), color=2), PNG_HEADERS, "RGB"),
    (
        Reason.WRONG_SHAPE,
        "a PNG with a palette",
        png(3, 2, bytes(8), color=3, extra=chunk(b"PLTE", bytes(3))),
        PNG_HEADERS,
        "mode P",
    ),
    (Reason.WRONG_SHAPE, "a PNG with alpha", png(3, 2, bytes(14), color=4), PNG_HEADERS, "LA"),
    (Reason.WRONG_SHAPE, "a PNG in black and white", png(3, 2, bytes(4), depth=1), PNG_HEADERS, "mode 1"),
    (Reason.WRONG_DTYPE, "floats", b"123456", raw_headers(dtype=b"float32"), "float32"),
    (Reason.WRONG_DTYPE, "a PNG of 16 bits", png(3, 2, bytes(14), depth=16), PNG_HEADERS, "8 bits"),
    (Reason.WRONG_DTYPE, "a PNG of 2 bits", png(3, 2, bytes(4), depth=2), PNG_HEADERS, "8 bits"),
    (Reason.LABEL_OUT_OF_RANGE, "a label too many", b"123456", raw_headers(label=b"10"), "at most 9"),
]


@pytest.mark.parametrize(
    ("reason", "value", "headers", "detail"),
    [(reason, value, headers, detail) for reason, _, value, headers, detail in REFUSED],
    ids=[name for _, name, *_ in REFUSED],
)
def test_what_is_not_a_sample_is_refused_with_a_reason(
    reason: Reason, value: bytes | None, headers: Headers, detail: str
) -> None:
    error = refusal(value, headers)
    assert error.reason == reason
    assert detail in error.detail


def test_every_reason_is_provoked() -> None:
    assert {reason for reason, *_ in REFUSED} == set(Reason)


def test_a_colour_png_of_16_bits_is_refused_rather_than_halved() -> None:
    value = png(3, 2, bytes(2 * 19), depth=16, color=2)
    assert refusal(value, PNG_HEADERS, TINY_RGB).reason == Reason.WRONG_DTYPE


def test_an_interlaced_png_is_read() -> None:
    # Adam7 of one pixel is one row of the first pass
    value = png(1, 1, b"\x00\xc8", interlace=1)
    sample = decode(value, PNG_HEADERS, Layout(height=1, width=1))
    assert sample.pixels.tolist() == [[[200]]]


def test_what_pillow_only_warns_about_is_the_same_whatever_the_warning_filters() -> None:
    bomb = png(10**4, 10**4, b"")
    animated = png(3, 2, rows_of(GOLDEN_GREY), extra=chunk(b"acTL", bytes(8)))
    for action in ("error", "ignore"):
        with warnings.catch_warnings():
            warnings.simplefilter(action)
            assert refusal(bomb, PNG_HEADERS).reason == Reason.WRONG_SHAPE
            np.testing.assert_array_equal(decode(animated, PNG_HEADERS, TINY).pixels, GOLDEN_GREY)


def test_a_png_of_four_channels_is_refused_by_name() -> None:
    layout = Layout(channels=4, height=2, width=3)
    error = refusal(png(3, 2, bytes(26), color=6), PNG_HEADERS, layout)
    assert (error.reason, error.detail) == (Reason.WRONG_SHAPE, "PNG of mode RGBA, none is taken")


def test_a_compressed_comment_is_not_inflated_without_bound() -> None:
    comment = chunk(b"zTXt", b"c\0\0" + zlib.compress(bytes(10**8)))
    assert refusal(png(3, 2, bytes(8), extra=comment), PNG_HEADERS).reason == Reason.UNDECODABLE


def test_a_detail_is_short_and_printable() -> None:
    for name in ("label", "content_type", "dtype", "shape", "lethe_version"):
        detail = refusal(b"123456", raw_headers(**{name: b"\x00\n\xff" * 5000})).detail
        assert len(detail) < 250
        assert detail.isprintable()


def test_a_producer_needs_neither_torch_nor_kafka() -> None:
    program = "import json, sys, service.wire; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert "numpy" in loaded
    assert not loaded & {"torch", "torchvision", "kafka", "confluent_kafka"}
