"""Untrusted text is shown as one printable line of bounded length."""

import logging
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lethe.events import SegmentStarted
from lethe.files.terminal import MAX_CHARACTERS, LineFormatter, escaped
from lethe.observability.log import log_event
from tests.support.commands import Lethe

FORGED = "A\n2026-01-01 00:00:00,000 ERROR forged line"


@given(st.text())
def test_any_text_becomes_one_printable_line(text: str) -> None:
    shown = escaped(text)
    assert shown.isprintable()
    shown.encode()  # surrogates, too, have become text
    assert shown == text or not text.isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\r\tc", r"a\x0ab\x0d\x09c"),
        ("\x1b[2J\x9b1m", r"\x1b[2J\x9b1m"),
        ("user\u202egnp.exe", r"user\u202egnp.exe"),
        ("\u2028\u2066\ud800\U000e0001", r"\u2028\u2066\ud800\U000e0001"),
        ("Zürich 東京 é €", "Zürich 東京 é €"),
        ("C:\\x0a", "C:\\x0a"),
    ],
)
def test_controls_are_escaped_and_letters_are_not(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_a_long_text_is_cut_and_the_rest_counted() -> None:
    assert escaped("x" * MAX_CHARACTERS) == "x" * MAX_CHARACTERS
    assert escaped("x" * (MAX_CHARACTERS + 7)) == "x" * MAX_CHARACTERS + "… (7 more characters)"


def test_an_event_is_one_line_in_the_log_for_any_header(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        log_event(SegmentStarted(FORGED, 1, 0))
    (record,) = caplog.records
    line = LineFormatter().format(record)
    assert "\n" not in line
    assert r"segment 1, A\x0a2026-01-01" in line


def test_a_traceback_keeps_its_lines_and_they_are_escaped() -> None:
    try:
        raise ValueError("\x1b[31m")
    except ValueError:
        record = logging.LogRecord("lethe", logging.ERROR, "", 0, "failed\n", (), sys.exc_info())
    first, *trace = LineFormatter().format(record).split("\n")
    assert first.endswith(r"ERROR failed\x0a")
    assert trace[0].startswith("Traceback")
    assert trace[-1] == r"ValueError: \x1b[31m"


def test_an_error_is_one_line_for_any_name_in_it(lethe: Lethe, tmp_path: Path) -> None:
    folder = tmp_path / "a\n\x1b[2J[bold]b"
    said = lethe.refuses("checkpoint", "list", str(folder))
    assert r"a\x0a\x1b[2J[bold]b holds no checkpoints" in said


def test_a_table_shows_no_control_of_a_files_name(lethe: Lethe, tmp_path: Path) -> None:
    folder = tmp_path / "a\n\x1b[2Jb"
    folder.mkdir()
    (folder / "checkpoint-000000000001.safetensors").write_bytes(b"torn")
    for command in ("list", "verify"):
        assert "\x1b" not in lethe("checkpoint", command, str(folder)).stdout
