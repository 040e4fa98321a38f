"""PNG files built by hand: golden ones, and invalid ones that no encoder would write."""

import struct
import zlib

__all__ = ["GREY_PNG", "RGB_PNG", "chunk", "png"]

GREY_PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000003000000020800000000b81f39c6000000104944415478da6360606462f8fb"
    "ef3f00060a02fe2d732f730000000049454e44ae426082"
)
"""`GOLDEN_GREY`, written once by hand with zlib; no library's encoder is trusted to stay the same."""

RGB_PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000030000000208020000001216f14d0000001c4944415478da63e0726b1209e8"
    "918b9ac6a091b2c0286f954dc51600396206af246bd5b70000000049454e44ae426082"
)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int,
    height: int,
    rows: bytes,
    *,
    depth: int = 8,
    color: int = 0,
    interlace: int = 0,
    extra: bytes = b"",
) -> bytes:
    """A PNG built from its parts, so that parts no encoder would write can be written."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace))
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + extra + data + chunk(b"IEND", b"")
