"""The decoding benchmark: every format in each turn, and ratios within it."""

import io

import pytest
from rich.console import Console

from lethe.cli.bench.decode import sides, table
from lethe.experiments.bench.decoding import DecodingBench, Rates, Side, bench_decoding


def rates() -> Rates:
    made = Rates()
    for side, turns in (
        (Side(224, "raw", 1), (100, 50)),
        (Side(224, "jpeg", 1), (20, 20)),
        (Side(224, "jpeg", 2), (30, 36)),
    ):
        for rate in turns:
            made.add(side, rate)
    return made


def test_ratios_are_of_the_same_turn_and_size() -> None:
    made = rates()
    side = Side(224, "jpeg", 2)
    assert made.mean(side) == 33
    assert made.to_raw(side) == pytest.approx((0.3 + 0.72) / 2)
    assert made.to_fewest_readers(side) == pytest.approx((1.5 + 1.8) / 2)


def test_the_table_has_a_row_for_each_side() -> None:
    assert [row["readers"] for row in sides(rates())] == [1, 1, 2]
    output = io.StringIO()
    Console(file=output, width=80).print(table(rates()))
    assert "3×224×224" in output.getvalue()
    assert "1.65" in output.getvalue()


@pytest.mark.needs("embedded")
def test_every_side_is_read_through_a_broker() -> None:
    (measured,) = bench_decoding(DecodingBench(readers=(1, 2), turns=1, images={16: 320}))
    found = [(side.form, side.readers) for side in measured.turns]
    assert found == [("raw", 1), ("png", 1), ("png", 2), ("jpeg", 1), ("jpeg", 2)]
    assert all(rate > 0 for (rate,) in measured.turns.values())
