"""What is kept of a record's key and headers, for its prediction."""

from dataclasses import replace

import pytest

from lethe.ingest.origins import LONGEST, TRACE_HEADERS, Origin, origin_of
from tests.support.batches import Rig, bad, good


def test_the_key_and_the_named_headers_are_kept() -> None:
    record = replace(good(2, 7), key=b"ward-4", headers=[("traceparent", b"00-a"), ("ce_source", b"x")])
    assert origin_of(record, TRACE_HEADERS) == Origin(2, 7, b"ward-4", (("traceparent", "00-a"),))
    assert origin_of(record, ()) == Origin(2, 7, b"ward-4")


@pytest.mark.parametrize("value", [None, b"\xff", b"x" * (LONGEST + 1)])
def test_a_header_that_is_no_text_or_too_long_is_left_out(value: bytes | None) -> None:
    record = replace(good(0, 1), headers=[("ce_id", value)])
    assert origin_of(record, TRACE_HEADERS) == Origin(0, 1)


def test_a_key_that_is_too_long_is_left_out() -> None:
    assert origin_of(replace(good(0, 1), key=b"x" * (LONGEST + 1)), ()).key is None
    assert origin_of(replace(good(0, 1), key=b"x" * LONGEST), ()).key is not None


def test_a_batch_names_the_origin_of_each_sample_and_of_no_malformed_record() -> None:
    records = [replace(good(0, offset), key=b"%d" % offset) for offset in range(4)]
    records.insert(1, replace(bad(0, 1), offset=1))
    log = [replace(record, offset=offset) for offset, record in enumerate(records)]
    (made,) = Rig({0: log}, size=4, origin_headers=()).batches()
    assert [(origin.offset, origin.key) for origin in made.filled.origins] == [
        (0, b"0"),
        (2, b"1"),
        (3, b"2"),
        (4, b"3"),
    ]
    (made,) = Rig({0: log}, size=4).batches()
    assert made.filled.origins == ()
