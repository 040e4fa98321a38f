"""JPEG, WebP and the fitting of images: golden bytes, and a reason for everything that is not accepted."""

import io
import struct
import warnings
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from lethe.errors import MalformedRecord
from lethe.wire import Layout, Pixels, Reason, decode
from lethe.wire.fitting import Fit
from tests.support.golden_pictures import GREY_JPEG, JPEG, LOSSLESS_WEBP, WEBP
from tests.support.pictures import picture
from tests.support.pngs import GREY_PNG, RGB_PNG, chunk, png

RED = Layout(channels=3, height=2, width=4, formats="jpeg,webp,png")
GREY = Layout(channels=1, height=2, width=4, formats="jpeg,webp,png")
TYPES: Final = {"JPEG": b"image/jpeg", "WEBP": b"image/webp", "PNG": b"image/png"}


def read(value: bytes, kind: str, layout: Layout) -> Pixels:
    return decode(value, [("content-type", TYPES[kind]), ("label", b"3")], layout).pixels


def refused(value: bytes, kind: str, layout: Layout) -> MalformedRecord:
    with pytest.raises(MalformedRecord) as caught:
        read(value, kind, layout)
    return caught.value


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def fitting(fit: Fit, layout: Layout = RED) -> Layout:
    return Layout.model_validate(layout.model_dump() | {"fit": fit})


@pytest.mark.parametrize(
    ("value", "kind", "layout", "colour"),
    [
        (JPEG, "JPEG", RED, [200, 30, 30]),
        (GREY_JPEG, "JPEG", GREY, [77]),
        (WEBP, "WEBP", RED, [200, 30, 30]),
    ],
    ids=["jpeg", "grey jpeg", "webp"],
)
def test_golden_bytes_are_read_as_this_colour(
    value: bytes, kind: str, layout: Layout, colour: list[int]
) -> None:
    pixels = read(value, kind, layout)
    assert (pixels.shape, pixels.dtype.name) == (layout.shape, "uint8")
    assert pixels.flags.c_contiguous
    expected = np.broadcast_to(np.array(colour)[:, np.newaxis, np.newaxis], layout.shape)
    np.testing.assert_allclose(pixels.astype(int), expected, atol=3)


def test_a_lossless_webp_is_read_to_the_last_bit() -> None:
    upper = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]
    np.testing.assert_array_equal(
        read(LOSSLESS_WEBP, "WEBP", RED).transpose(1, 2, 0), [upper, [[0, 0, 0]] * 4]
    )


@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 99), grey=st.booleans())
def test_what_pillow_writes_is_read_as_pillow_reads_it(
    height: int, width: int, seed: int, grey: bool
) -> None:
    image = picture((120, 90, 60), (height, width), seed)
    image = image.convert("L") if grey else image
    layout = Layout(channels=1 if grey else 3, height=height, width=width, formats="jpeg,webp")
    for kind, options in (
        ("JPEG", {"quality": 90, "comment": b"\xff\xd9 a comment"}),
        ("JPEG", {"progressive": True, "exif": b"Exif\0\0 not one"}),
        ("WEBP", {"quality": 80, "xmp": b"<xmp/>"}),
        ("WEBP", {"lossless": True}),
    ):
        if grey and kind == "WEBP":
            continue
        value = saved(image, kind, **options)
        with Image.open(io.BytesIO(value)) as back:
            expected = np.asarray(back).reshape(height, width, -1).transpose(2, 0, 1)
        np.testing.assert_array_equal(read(value, kind, layout), expected)


# content types


@pytest.mark.parametrize(
    "given_type", [b"image/png", b"IMAGE/PNG", b"image/png; charset=binary", b" Image/Png ;a"]
)
def test_parameters_and_case_of_a_content_type_are_ignored(given_type: bytes) -> None:
    layout = Layout(channels=1, height=2, width=3)
    sample = decode(GREY_PNG, [("content-type", given_type), ("label", b"3")], layout)
    assert sample.label == 3


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_a_format_is_refused_unless_the_deployment_accepts_it(kind: str) -> None:
    for formats in ("png,raw", "png"):
        error = refused(JPEG, kind, Layout.model_validate(RED.model_dump() | {"formats": formats}))
        assert error.reason == Reason.CONTENT_TYPE
        assert "image/png" in error.detail
    only = Layout(channels=3, height=2, width=3, formats="jpeg")
    assert refused(RGB_PNG, "PNG", only).detail == "content-type is not one of image/jpeg"


def test_formats_are_named_once_and_in_one_order() -> None:
    assert Layout(formats=" webp, jpeg,webp").formats == "jpeg,webp"
    for wrong, said in (
        ("gif", "gif: the formats are png, jpeg, webp, raw"),
        ("", "nothing: "),
        ("png,", "nothing"),
    ):
        with pytest.raises(ValidationError, match=said):
            Layout(formats=wrong)


# what is refused


def jpeg_of(width: int, height: int, frame: int = 0xC0, bits: int = 8, components: int = 3) -> bytes:
    """A JPEG of this announced size, whose image data does not matter."""
    at = JPEG.index(b"\xff\xc0")
    header = struct.pack(">BHHB", bits, height, width, components)
    return JPEG[:at] + bytes([0xFF, frame]) + JPEG[at + 2 : at + 4] + header + JPEG[at + 10 :]


def webp_of(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP" + b"".join(k + struct.pack("<I", len(c)) + c + bytes(len(c) % 2) for k, c in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


VP8: Final = WEBP[20 : 20 + struct.unpack("<I", WEBP[16:20])[0]]
BIG: Final = bytes(7) + struct.pack("<HH", 0x3FFF, 0x3FFF)
SCAN: Final = JPEG[JPEG.index(b"\xff\xda") : -2]

REFUSED: list[tuple[Reason, str, str, bytes, str]] = [
    (Reason.UNDECODABLE, "text for a JPEG", "JPEG", b"three", "not a JPEG"),
    (Reason.UNDECODABLE, "an empty JPEG", "JPEG", b"", "not a JPEG"),
    (Reason.UNDECODABLE, "a PNG for a JPEG", "JPEG", RGB_PNG, "not a JPEG"),
    (Reason.UNDECODABLE, "an arithmetic JPEG", "JPEG", jpeg_of(4, 2, frame=0xC9), "neither baseline"),
    (Reason.UNDECODABLE, "a JPEG of no pixels", "JPEG", jpeg_of(0, 2), "frame header"),
    (Reason.UNDECODABLE, "a JPEG of two components", "JPEG", jpeg_of(4, 2, components=2), "frame header"),
    (Reason.WRONG_DTYPE, "a JPEG of 12 bits", "JPEG", jpeg_of(4, 2, bits=12), "12 bits"),
    (Reason.WRONG_SHAPE, "a JPEG on its side", "JPEG", jpeg_of(2, 4), "4×2, expected 2×4"),
    (Reason.WRONG_SHAPE, "a JPEG of four gigapixels", "JPEG", jpeg_of(65535, 65535), "another size"),
    (Reason.WRONG_SHAPE, "a grey JPEG", "JPEG", GREY_JPEG, "mode L, expected RGB"),
    (Reason.DAMAGED, "half a JPEG", "JPEG", JPEG[: len(JPEG) // 2], "longer than the file"),
    (Reason.DAMAGED, "a JPEG without its end", "JPEG", JPEG[:-2], "ends before its end marker"),
    (Reason.DAMAGED, "a JPEG and a byte", "JPEG", JPEG + b"\0", "bytes after its end"),
    (Reason.DAMAGED, "two JPEGs", "JPEG", JPEG + JPEG, "bytes after its end"),
    (Reason.DAMAGED, "a JPEG without image data", "JPEG", JPEG[:2] + JPEG[-2:], "no image data"),
    (
        Reason.DAMAGED,
        "a JPEG without a frame",
        "JPEG",
        JPEG[:2] + SCAN + JPEG[-2:],
        "frame header is missing",
    ),
    (
        Reason.DAMAGED,
        "a JPEG without tables",
        "JPEG",
        JPEG[:2] + JPEG[JPEG.index(b"\xff\xc0") :][:19] + SCAN + JPEG[-2:],
        "decoded",
    ),
    (Reason.TOO_COSTLY, "a JPEG of many scans", "JPEG", JPEG[:-2] + 40 * SCAN + JPEG[-2:], "scans"),
    (
        Reason.TOO_COSTLY,
        "a JPEG of many segments",
        "JPEG",
        JPEG[:2] + 200 * b"\xff\xfe\0\2" + JPEG[2:],
        "segments",
    ),
    (Reason.UNDECODABLE, "text for a WebP", "WEBP", b"three", "not a WebP"),
    (Reason.UNDECODABLE, "an AVI for a WebP", "WEBP", b"RIFF\4\0\0\0AVI ", "not a WebP"),
    (Reason.UNDECODABLE, "an animated WebP", "WEBP", webp_of((b"ANIM", bytes(6))), "animated"),
    (
        Reason.UNDECODABLE,
        "an extended header that is none",
        "WEBP",
        webp_of((b"VP8X", b""), (b"VP8 ", VP8)),
        "extended",
    ),
    (
        Reason.WRONG_SHAPE,
        "a WebP of 268 megapixels",
        "WEBP",
        webp_of((b"VP8 ", VP8[:6] + BIG[7:])),
        "another size",
    ),
    (Reason.DAMAGED, "half a WebP", "WEBP", WEBP[: len(WEBP) // 2], "more or fewer bytes"),
    (Reason.DAMAGED, "a WebP and a byte", "WEBP", WEBP + b"\0", "more or fewer bytes"),
    (Reason.DAMAGED, "a WebP without an image", "WEBP", webp_of((b"EXIF", b"")), "no image"),
    (Reason.DAMAGED, "a WebP of two images", "WEBP", webp_of((b"VP8 ", VP8), (b"VP8 ", VP8)), "two images"),
    (Reason.DAMAGED, "a WebP whose frame is torn", "WEBP", webp_of((b"VP8 ", VP8[:9])), "frame header"),
    (Reason.DAMAGED, "a lossless WebP that is none", "WEBP", webp_of((b"VP8L", VP8)), "frame header"),
    (Reason.DAMAGED, "a WebP whose data is torn", "WEBP", webp_of((b"VP8 ", VP8[:12])), "decoded"),
    (
        Reason.DAMAGED,
        "a canvas of another size",
        "WEBP",
        webp_of((b"VP8X", bytes(4) + b"\xff\xff\0\xff\xff\0"), (b"VP8 ", VP8)),
        "canvas",
    ),
    (
        Reason.TOO_COSTLY,
        "a WebP of many chunks",
        "WEBP",
        webp_of(*[(b"none", b"")] * 100, (b"VP8 ", VP8)),
        "chunks",
    ),
]


@pytest.mark.parametrize(
    ("reason", "kind", "value", "detail"),
    [(reason, kind, value, detail) for reason, _, kind, value, detail in REFUSED],
    ids=[name for _, name, *_ in REFUSED],
)
def test_a_malformed_picture_is_refused_with_a_reason(
    reason: Reason, kind: str, value: bytes, detail: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow warns of large images
        error = refused(value, kind, RED)
    assert error.reason == reason
    assert detail in error.detail


# fitting


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_another_size_is_scaled_only_if_asked_for(kind: str) -> None:
    value = saved(picture((200, 30, 30), (30, 40), 0), kind)
    for fit in ("refuse", "convert"):
        assert refused(value, kind, fitting(fit)).reason == Reason.WRONG_SHAPE
    pixels = read(value, kind, fitting("resize"))
    np.testing.assert_allclose(pixels.mean(axis=(1, 2)), [200, 30, 30], atol=8)


MODES: Final = {
    "palette": Image.new("RGB", (4, 2), (10, 200, 30)).quantize(4),
    "grey with alpha": Image.new("LA", (4, 2), (77, 255)),
    "alpha": Image.new("RGBA", (4, 2), (10, 200, 30, 255)),
    "black and white": Image.new("1", (4, 2), 1),
    "grey": Image.new("L", (4, 2), 77),
    "sixteen bits": Image.fromarray(np.full((2, 4), 0x4D00, np.uint16)),
}
COLOURS: Final = {"palette": [10, 200, 30], "alpha": [10, 200, 30], "black and white": [255] * 3}


@pytest.mark.parametrize("mode", MODES)
def test_a_png_of_another_mode_is_converted_only_if_asked_for(mode: str) -> None:
    value = saved(MODES[mode], "PNG")
    assert refused(value, "PNG", RED).reason in {Reason.WRONG_SHAPE, Reason.WRONG_DTYPE}
    for fit in ("convert", "resize"):
        pixels = read(value, "PNG", fitting(fit))
        assert pixels[:, 1, 1].tolist() == COLOURS.get(mode, [77] * 3)


@pytest.mark.parametrize("fit", ["convert", "resize"])
def test_an_image_that_fits_is_not_changed(fit: Fit) -> None:
    layout = Layout(channels=3, height=2, width=3)
    np.testing.assert_array_equal(read(RGB_PNG, "PNG", layout), read(RGB_PNG, "PNG", fitting(fit, layout)))


def test_transparent_pixels_become_white() -> None:
    clear = Image.new("RGBA", (4, 2), (10, 20, 30, 0))
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("WEBP", {"quality": 80})):
        assert refused(saved(clear, kind, **options), kind, RED).reason == Reason.WRONG_SHAPE
        assert read(saved(clear, kind, **options), kind, fitting("convert")).min() == 255


def test_inks_and_greys_become_colours_and_colours_become_grey() -> None:
    inks = saved(Image.new("CMYK", (4, 2), (255, 0, 255, 0)), "JPEG")
    assert read(inks, "JPEG", fitting("convert"))[:, 0, 0].argmax() == 1
    assert read(GREY_JPEG, "JPEG", fitting("convert"))[:, 0, 0].tolist() == [77] * 3
    assert read(JPEG, "JPEG", fitting("convert", GREY)).shape == (1, 2, 4)


@pytest.mark.parametrize("fit", ["convert", "resize"])
def test_damage_is_refused_however_an_image_is_fitted(fit: Fit) -> None:
    palette = saved(MODES["palette"], "PNG")
    for place in range(8, len(palette)):
        changed = palette[:place] + bytes([palette[place] ^ 1]) + palette[place + 1 :]
        refused(changed, "PNG", fitting(fit))
    few = png(4, 2, bytes(8), color=3, extra=chunk(b"PLTE", bytes(3)))
    assert "fewer bytes" in refused(few, "PNG", fitting(fit)).detail
    huge = png(5000, 5000, b"", color=3, extra=chunk(b"PLTE", bytes(3)))
    assert refused(huge, "PNG", fitting(fit)).reason == Reason.WRONG_SHAPE
