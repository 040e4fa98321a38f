"""Records without a label: samples of their own where they are allowed, dead letters where they are not."""

from dataclasses import replace

import pytest

from tests.support.batches import Rig, bad, good
from tests.support.sources import MemoryRecord


def without_label(offset: int, partition: int = 0) -> MemoryRecord:
    record = good(partition, offset, "a")
    return replace(record, headers=[header for header in record.headers if header[0] != "label"])


LOG = [good(0, 0), without_label(1), without_label(2), good(0, 3), without_label(4), good(0, 5), good(0, 6)]


def test_they_are_dead_lettered_by_default() -> None:
    (made,) = Rig({0: LOG}, size=4).batches()
    assert (made.filled.samples, made.filled.unlabelled) == (4, 0)
    assert made.filled.dead == {"missing_header": 3}


def test_where_they_are_allowed_they_count_towards_the_size_of_a_batch() -> None:
    (made,) = Rig({0: LOG}, size=4, unlabelled=True, origin_headers=()).batches()
    filled = made.filled
    assert made.samples == [(0, 0), (0, 3)]
    assert (filled.samples, filled.unlabelled, filled.received, dict(filled.dead)) == (2, 2, 4, {})
    assert [origin.offset for origin in filled.origins] == [0, 3, 2, 1]
    assert filled.places == ((0, 0), (0, 3))
    assert sum(count for _, count in filled.segments) == 2
    assert filled.position.offsets == {0: 4}


def test_a_batch_may_have_no_label_at_all() -> None:
    log = [without_label(offset) for offset in range(4)]
    (made,) = Rig({0: log}, size=4, unlabelled=True).batches()
    assert (made.filled.samples, made.filled.unlabelled, made.filled.segments) == (0, 4, ())
    assert made.filled.produced == 1.0, "the time of the first of them"


def test_they_are_malformed_for_any_other_reason() -> None:
    log = [bad(0, 0), replace(without_label(1), value=b"123"), without_label(2), good(0, 3)]
    rig = Rig({0: log}, size=2, unlabelled=True)
    (made,) = rig.batches()
    assert made.filled.samples + made.filled.unlabelled == 2
    assert made.filled.dead["wrong_shape"] == 1


@pytest.mark.parametrize("label", [b"", b"cat", b"10"])
def test_a_label_that_is_wrong_is_not_a_missing_one(label: bytes) -> None:
    record = without_label(0)
    record = replace(record, headers=[*record.headers, ("label", label)])
    (made,) = Rig({0: [record, good(0, 1)]}, size=1, unlabelled=True).batches()
    assert sum(made.filled.dead.values()) == 1


@pytest.mark.parametrize("names", [None, ()])
def test_labels_may_be_numbers_or_names_beside_them(names: tuple[str, ...] | None) -> None:
    (made,) = Rig({0: LOG[:2]}, size=2, unlabelled=True, names=names).batches()
    assert (made.labels, made.filled.unlabelled) == ([0], 1)
    assert made.filled.position.classes == (() if names is None else ("0",))
