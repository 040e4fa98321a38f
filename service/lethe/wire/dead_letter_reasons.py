"""The reasons for which a record is dead-lettered instead of learned."""

from enum import StrEnum

__all__ = ["Reason"]


class Reason(StrEnum):
    """Why a record is malformed; the label of ``lethe_samples_dead_lettered_total``."""

    NULL_VALUE = "null_value"
    OVERSIZED = "oversized"
    MISSING_HEADER = "missing_header"
    BAD_HEADER = "bad_header"
    UNSUPPORTED_VERSION = "unsupported_version"
    CONTENT_TYPE = "content_type"
    UNDECODABLE = "undecodable"
    """Not of the format given in its content-type."""
    WRONG_SHAPE = "wrong_shape"
    WRONG_DTYPE = "wrong_dtype"
    NOT_FINITE = "not_finite"
    """A vector with a NaN or an infinity."""
    LABEL_OUT_OF_RANGE = "label_out_of_range"
    DAMAGED = "damaged"
    """Of that format but inconsistent: wrong checksums, rows or lengths, or trailing bytes."""
    TOO_COSTLY = "too_costly"
    """Decoding it would take, or took, more time than an image of its size may."""
