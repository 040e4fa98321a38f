"""Settled offsets: as a set of numbers, also once they were text, and forgotten from the front."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lethe.ingest.settled_offsets import SettledOffsets

OFFSETS = st.sets(st.integers(0, 70))


@given(first=st.integers(0, 1000), added=OFFSETS, gone=st.integers(0, 80), later=OFFSETS)
def test_they_are_those_that_were_added_and_are_not_forgotten(
    first: int, added: set[int], gone: int, later: set[int]
) -> None:
    settled = SettledOffsets(first)
    for offset in added:
        settled.add(first + offset)
    assert {offset for offset in range(90) if first + offset in settled} == added
    begin = first + gone
    text = settled.text(begin)
    kept = {offset for offset in added if offset >= gone}
    assert bool(text) == bool(kept)
    for one in (settled, SettledOffsets(begin, text)):
        for offset in later:
            one.add(begin + offset)
        expected = kept | {gone + offset for offset in later}
        assert {offset for offset in range(gone, 190) if first + offset in one} == expected


def test_many_settled_ones_are_a_short_text() -> None:
    settled = SettledOffsets(0)
    for offset in range(1, 200_000):
        settled.add(offset)
    assert len(settled.text(0)) < 500


@pytest.mark.parametrize(
    ("text", "why"), [("?", "base64"), ("AAAA", "does not say which offsets are settled")]
)
def test_other_text_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        SettledOffsets(0, text)
