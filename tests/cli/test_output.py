"""The results of a benchmark as a table and as JSON."""

import json

import pytest

from lethe.cli.bench.output import show

NUMBERS = {"learner": "ridge", "bytes": 140_000_000, "seconds_lost_per_checkpoint": 1.23456}


def test_a_table_has_a_row_for_each_number_and_fits_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(NUMBERS, as_json=False)
    shown = capsys.readouterr().out
    for cell in ("seconds lost per checkpoint", "1.235", "140000000", "ridge"):
        assert cell in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_as_json_it_is_one_document_with_all_digits(capsys: pytest.CaptureFixture[str]) -> None:
    show(NUMBERS, as_json=True)
    assert json.loads(capsys.readouterr().out) == NUMBERS
