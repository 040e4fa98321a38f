"""Names of classes: their numbers, and the reason for each label that is no name."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lethe.errors import InvalidFile, MalformedRecord
from lethe.wire import Layout, Reason, Sample, decode, encode
from lethe.wire.class_names import LONGEST_NAME, ClassNames, is_class_name, read_class_names

LAYOUT = Layout(height=1, width=2, classes=3)


def record(name: str) -> tuple[bytes, list[tuple[str, bytes]]]:
    return encode(Sample(np.zeros(LAYOUT.shape, np.uint8), 0, name=name))


def test_a_name_has_the_next_number_once_it_is_added() -> None:
    names = ClassNames(["cat"], 3)
    assert decode(*record("dog"), LAYOUT, names=names).label == 1
    assert list(names.names) == ["cat"], "a record is decoded, and may be malformed for another reason"
    names.add("dog")
    names.add("dog")
    assert list(names.names) == ["cat", "dog"]
    samples = [decode(*record(name), LAYOUT, names=names) for name in ("bird", "cat", "dog")]
    assert [(sample.label, sample.name) for sample in samples] == [(2, "bird"), (0, "cat"), (1, "dog")]


def test_a_number_is_a_name_like_any_other() -> None:
    names = ClassNames((), 2)
    assert names.find(b"7") == (0, "7")


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (b"", Reason.BAD_HEADER),
        (b"\xff", Reason.BAD_HEADER),
        (b"x" * (LONGEST_NAME + 1), Reason.BAD_HEADER),
        (b"a\nb", Reason.BAD_HEADER),
        ("\N{RIGHT-TO-LEFT OVERRIDE}a".encode(), Reason.BAD_HEADER),
        (b"fish", Reason.LABEL_OUT_OF_RANGE),
    ],
)
def test_a_label_that_is_no_name_and_one_too_many_are_malformed(label: bytes, reason: Reason) -> None:
    names = ClassNames(["cat", "dog", "bird"], 3)
    with pytest.raises(MalformedRecord) as refused:
        names.find(label)
    assert refused.value.reason == reason
    assert "fish" not in refused.value.detail


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=50)
@given(labels=st.lists(st.binary(max_size=70), max_size=8), most=st.integers(1, 5))
def test_any_label_has_a_number_below_the_limit_or_a_reason(labels: list[bytes], most: int) -> None:
    names = ClassNames((), most)
    for label in labels:
        with suppress(MalformedRecord):
            number, name = names.find(label)
            names.add(name)
            assert names.names[number] == name == label.decode()
    assert len(names.names) <= most
    assert all(map(is_class_name, names.names))


def test_names_are_read_from_a_file_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("cat\nhot dog\nぺんぎん\n", encoding="utf-8")
    assert read_class_names(path) == ("cat", "hot dog", "ぺんぎん")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cat\n\ndog\n", "line 2: a name has 1 to 64 characters"),
        (b"cat\ndog\ncat\n", "line 3: 'cat' is in line 1 already"),
        (b"cat\n" + b"x" * 65, "line 2: a name has"),
        (b"\xff\xfe", "cannot be read as a list of names"),
    ],
)
def test_a_file_that_is_no_list_of_names_is_refused_by_line(
    content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(content)
    with pytest.raises(InvalidFile, match=message):
        read_class_names(path)
    with pytest.raises(InvalidFile, match=r"missing\.txt cannot be read"):
        read_class_names(tmp_path / "missing.txt")
