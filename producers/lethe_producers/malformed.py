"""Creates malformed records, one kind for each `Reason`."""

from typing import Final
from zlib import crc32

from lethe.wire import PNG, RAW, Layout, Reason, Sample, encode

__all__ = ["malformed"]

Headers = list[tuple[str, bytes]]

DEFAULT_LAYOUT: Final = Layout()

_AFTER_IHDR: Final = 33  # where a PNG's second chunk begins


def malformed(
    sample: Sample, reason: Reason, layout: Layout = DEFAULT_LAYOUT
) -> tuple[bytes | None, Headers]:
    """Return a value and headers that ``layout``, of which ``sample`` is, rejects for ``reason``."""
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
            return value, _with(headers, "dtype", b"float32")
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
