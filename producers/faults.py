"""Malformed records, one for each `Reason` that the service tells apart."""

from service.wire import PNG, RAW, Layout, Reason, Sample, encode

__all__ = ["malformed"]

Headers = list[tuple[str, bytes]]


def malformed(sample: Sample, reason: Reason) -> tuple[bytes | None, Headers]:
    """Return a value and headers that a service with the default `Layout` refuses for ``reason``."""
    value, headers = encode(sample, PNG if reason is Reason.UNDECODABLE else RAW)
    match reason:
        case Reason.NULL_VALUE:
            return None, headers
        case Reason.OVERSIZED:
            return bytes(Layout().max_bytes + 1), headers
        case Reason.MISSING_HEADER:
            return value, [header for header in headers if header[0] != "label"]
        case Reason.BAD_HEADER:
            return value, _with(headers, "label", b"three")
        case Reason.UNSUPPORTED_VERSION:
            return value, _with(headers, "lethe-version", b"99")
        case Reason.CONTENT_TYPE:
            return value, _with(headers, "content-type", b"image/jpeg")
        case Reason.UNDECODABLE:
            return value[: len(value) // 2], headers  # cut short, as by a broken upload
        case Reason.WRONG_SHAPE:
            return value[:-1], headers
        case Reason.WRONG_DTYPE:
            return value, _with(headers, "dtype", b"float32")
        case Reason.LABEL_OUT_OF_RANGE:
            return value, _with(headers, "label", b"999999999")


def _with(headers: Headers, name: str, content: bytes) -> Headers:
    return [header for header in headers if header[0] != name] + [(name, content)]
