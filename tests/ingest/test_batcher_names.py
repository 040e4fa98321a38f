"""Names of classes are collected in the order of the stream, and a position holds those before it."""

from collections.abc import Sequence
from dataclasses import replace

from tests.support.batches import Made, Rig, good
from tests.support.sources import MemoryRecord


def named(offset: int, name: str | bytes, partition: int = 0) -> MemoryRecord:
    record = good(partition, offset)
    label = name if isinstance(name, bytes) else name.encode()
    return replace(record, headers=[*(h for h in record.headers if h[0] != "label"), ("label", label)])


def log(*names: str | bytes) -> list[MemoryRecord]:
    return [named(offset, name) for offset, name in enumerate(names)]


def classes(batches: Sequence[Made]) -> list[tuple[str, ...]]:
    return [made.filled.position.classes for made in batches]


STREAM = ("cat", "dog", "cat", "bird", "dog", "fish", "cat", "cat")


def test_classes_are_numbered_as_they_appear_after_those_that_are_known() -> None:
    batches = Rig({0: log(*STREAM)}, size=2, names=()).batches()
    assert [made.labels for made in batches] == [[0, 1], [0, 2], [1, 3], [0, 0]]
    assert classes(batches) == [
        ("cat", "dog"),
        ("cat", "dog", "bird"),
        ("cat", "dog", "bird", "fish"),
        ("cat", "dog", "bird", "fish"),
    ]
    assert [made.labels for made in Rig({0: log(*STREAM)}, size=8, names=["fish"]).batches()] == [
        [1, 2, 1, 3, 2, 0, 1, 1]
    ]


def test_a_restart_after_any_batch_numbers_the_rest_alike() -> None:
    whole = Rig({0: log(*STREAM)}, size=2, names=()).batches()
    for done, made in enumerate(whole, 1):
        rest = Rig({0: log(*STREAM)}, size=2, names=(), position=made.filled.position).batches()
        assert [again.labels for again in rest] == [again.labels for again in whole[done:]]
        assert classes(rest) == classes(whole[done:])


def test_a_malformed_record_adds_no_class() -> None:
    records = log("cat", "dog", "bird", "cat")
    records[1] = replace(records[1], value=b"123")
    (made,) = Rig({0: records}, size=3, names=()).batches()
    assert (made.labels, made.filled.dead) == ([0, 1, 0], {"wrong_shape": 1})
    assert made.filled.position.classes == ("cat", "bird")


def test_a_class_too_many_is_dead_lettered_and_the_others_are_learned() -> None:
    names = [f"class {number}" for number in range(12)]
    rig = Rig({0: log(*names, b"\xff", "class 0")}, size=11, names=())
    (made,) = rig.batches()
    assert made.labels == [*range(10), 0]
    assert made.filled.dead == {"label_out_of_range": 2, "bad_header": 1}
    assert [reason for *_, reason in rig.letters.acknowledged] == [
        "label_out_of_range",
        "label_out_of_range",
        "bad_header",
    ]
