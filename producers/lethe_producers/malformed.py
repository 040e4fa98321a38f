"""Creates malformed records, one kind for each `Reason` that a layout has."""

from typing import Final
from zlib import crc32

import numpy as np

from lethe.wire import PNG, RAW, Layout, Reason, Sample, encode

__all__ = ["kinds_of", "malformed"]

Headers = list[tuple[str, bytes]]

DEFAULT_LAYOUT: Final = Layout()

OF_IMAGES: Final = frozenset({Reason.UNDECODABLE, Reason.DAMAGED, Reason.TOO_COSTLY})
OF_VECTORS: Final = frozenset({Reason.NOT_FINITE})

_AFTER_IHDR: Final = 33  # where a PNG's second chunk begins


def kinds_of(layout: Layout) -> tuple[Reason, ...]:
    """Return the reasons for which a record of ``layout`` can be malformed."""
    none = OF_VECTORS if layout.features is None else OF_IMAGES
    return tuple(reason for reason in Reason if reason not in none)


def malformed(
    sample: Sample, reason: Reason, layout: Layout = DEFAULT_LAYOUT
) -> tuple[bytes | None, Headers]:
    """Return a value and headers that ``layout``, of which ``sample`` is, rejects for ``reason``.

    The reason is one of `kinds_of` the layout.
    """
    value, headers = encode(sample, PNG if reason in {Reason.DAMAGED, Reason.TOO_COSTLY} else RAW)
    match reason:
        case Reason.NULL_VALUE:
            return None, headers
        case Reason.OVERSIZED:
            return bytes(layout.max_bytes + 1), headers
        case Reason.MISSING_HEADER:
            return value, [header for header in headers if header[0] != "label"]
        case Reason.BAD_HEADER:
            return value, _with(headers, "label", b"three")
        case Reason.UNSUPPORTED_VERSION:
            return value, _with(headers, "lethe-version", b"99")
        case Reason.CONTENT_TYPE:
            return value, _with(headers, "content-type", b"image/gif")
        case Reason.UNDECODABLE:
            return value, _with(headers, "content-type", PNG.encode())
        case Reason.WRONG_SHAPE:
            return value[:-1], headers
        case Reason.WRONG_DTYPE:
            return value, _with(headers, "dtype", b"float32" if layout.features is None else b"uint8")
        case Reason.NOT_FINITE:
            return value[:-4] + np.array(np.nan, "<f4").tobytes(), headers
        case Reason.LABEL_OUT_OF_RANGE:
            return value, _with(headers, "label", b"999999999")
        case Reason.DAMAGED:
            middle = len(value) // 2
            return value[:middle] + bytes([value[middle] ^ 1]) + value[middle + 1 :], headers
        case Reason.TOO_COSTLY:
            empty = bytes(4) + b"teXt" + crc32(b"teXt").to_bytes(4)
            return value[:_AFTER_IHDR] + 1000 * empty + value[_AFTER_IHDR:], headers


def _with(headers: Headers, name: str, content: bytes) -> Headers:
    return [header for header in headers if header[0] != name] + [(name, content)]
