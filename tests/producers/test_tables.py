"""Sources of vectors: tables in Parquet and CSV files, arrays, and river's generators."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from lethe.errors import DataUnavailable, InvalidScenario
from lethe.probeset import load_folder
from lethe.wire import Layout, decode
from lethe_producers.order import EndlessOrder, Order
from lethe_producers.probes import write_probes
from lethe_producers.records import Records
from lethe_producers.scenario import Scenario, load_scenario
from lethe_producers.sources.arrays import Npz
from lethe_producers.sources.base import Classes, Rows
from lethe_producers.sources.generated import GENERATORS, Synth
from lethe_producers.sources.tables import Csv, Parquet, TableSource

ROWS = [
    (3.5, -1, "sunny", 7.0, 2),
    (0.25, 4, "dry", 8.0, 1),
    (1.5, 0, "dry", 9.0, 3),
    (9.0, 2, "sunny", 1.0, 0),
]
HEADER = "wind,rain,label,level,hour"


def csv_of(folder: Path, *lines: str) -> str:
    """A CSV file of these lines, by default one of `ROWS`."""
    rows = lines or [HEADER, *(",".join(map(str, row)) for row in ROWS)]
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    return str(folder / "table.csv")


def parquet_of(folder: Path) -> str:
    columns = {name: [row[at] for row in ROWS] for at, name in enumerate(HEADER.split(","))}
    parquet.write_table(pa.table(columns), folder / "table.parquet")
    return str(folder / "table.parquet")


def vectors_of(rows: Rows) -> list[list[float]]:
    x_NF = rows.read(np.arange(len(rows)))
    assert x_NF.dtype == np.float32
    found: list[list[float]] = x_NF.tolist()
    return found


@pytest.mark.parametrize("kind", [Csv, Parquet])
def test_a_table_gives_vectors_of_its_columns_of_numbers_and_labels_by_name(
    kind: type[TableSource], tmp_path: Path
) -> None:
    path = csv_of(tmp_path) if kind is Csv else parquet_of(tmp_path)
    rows = kind(path=path).every_row()
    assert (rows.shape, rows.classes) == ((4,), Classes(2, ("dry", "sunny"), by_name=True))
    assert vectors_of(rows) == [[wind, rain, level, hour] for wind, rain, _, level, hour in ROWS]
    assert rows.y_N.tolist() == [1, 0, 0, 1]
    chosen = kind(path=path, features=("level", "wind"), time="hour")
    assert chosen.ordered
    assert vectors_of(chosen.every_row()) == [[1.0, 9.0], [8.0, 0.25], [7.0, 3.5], [9.0, 1.5]]
    numbers = kind(path=path, label="hour", features=("wind",)).every_row()
    assert (numbers.y_N.tolist(), numbers.classes) == ([2, 1, 3, 0], Classes(4))


@pytest.mark.parametrize(
    ("options", "lines", "said"),
    [
        ({"label": "class"}, (), "has no column class (label), only wind, rain, label, level, hour"),
        ({"features": ("wind", "fog")}, (), "has no column fog (features)"),
        ({"time": "day"}, (), "has no column day (time)"),
        ({"features": ("label",), "label": "hour"}, (), "column label is string, and a vector has numbers"),
        ({}, ("a,label", "1,0", ",1"), "table.csv, line 3: a is empty"),
        ({}, ("a,label", "1,0", "2,"), "table.csv, line 3: label is empty"),
        ({}, ("a,label", "1,0", "1e39,1"), "table.csv, line 3: a is no finite float32 number"),
        ({}, ("a,label", "nan,0", "1,1"), "table.csv, line 2: a is"),
        ({}, ("a,label", "1,0", "2,-1"), "table.csv, line 3: label -1 is negative"),
        ({}, ("a,label", "1,0.5", "2,1"), "column label is double; labels are whole numbers or names"),
        ({}, ("a,label", "1,0", "1,2,3"), "Row #3"),
        ({}, ("label", "0", "1"), "has no columns of numbers beside label"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_with_its_file_and_line(
    options: dict[str, Any], lines: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataUnavailable) as refused:
        Csv(path=csv_of(tmp_path, *lines), **options).every_row()
    assert str(tmp_path / "table.csv") in str(refused.value)
    assert said in str(refused.value)


def test_a_file_that_is_no_table_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and no more")
    for path in ("x.parquet", "absent.parquet"):
        with pytest.raises(DataUnavailable, match=f"{path} cannot be read"):
            Parquet(path=str(tmp_path / path)).every_row()


def test_arrays_of_float32_are_vectors(tmp_path: Path) -> None:
    x_NF = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.savez(tmp_path / "v.npz", x=x_NF, y=np.arange(4) % 2)
    rows = Npz(path=str(tmp_path / "v.npz")).every_row()
    assert (rows.shape, vectors_of(rows)) == ((3,), x_NF.tolist())
    np.savez(tmp_path / "v.npz", x=x_NF + np.inf, y=np.arange(4) % 2)
    with pytest.raises(DataUnavailable, match="not finite"):
        Npz(path=str(tmp_path / "v.npz")).every_row()


# scenarios

OWN = """\
name: stations
segments:
  - {subject: north, csv: {path: north.csv, time: at}}
  - {subject: south, csv: south.csv, blend: 0}
"""


def stations(folder: Path, text: str = OWN) -> Scenario:
    rng = np.random.default_rng(0)
    for name, columns in (("north", "a,at,b,label"), ("south", "a,b,label")):
        drawn = rng.integers(0, 90, (20, columns.count(",") + 1))
        drawn[:, -1] = np.arange(20) % 2
        (folder / f"{name}.csv").write_text("\n".join([columns, *(",".join(map(str, row)) for row in drawn)]))
    (folder / "own.yaml").write_text(text)
    return load_scenario(str(folder / "own.yaml"), folder)


def test_a_scenario_of_tables_is_streamed_as_vectors_in_the_order_of_time_and_probed(tmp_path: Path) -> None:
    scenario = stations(tmp_path)
    assert scenario.layout == Layout(features=2, classes=2)
    order = Order(scenario, 0)
    records = Records(order, tmp_path)
    assert [order.at(index).row for index in range(16)] == list(range(16))
    assert sorted(order.at(index).row for index in range(16, 32)) == list(range(16))
    assert [order.at(index).row for index in range(16, 32)] != list(range(16))
    sample = decode(records.at(0).value, records.at(0).headers, scenario.layout)
    assert (sample.segment, sample.pixels.shape) == ("north", (2,))
    write_probes(scenario, tmp_path, tmp_path / "probes")
    probes = load_folder(tmp_path / "probes")
    assert [(probe.name, probe.x_NCHW.shape) for probe in probes] == [("north", (4, 2)), ("south", (4, 2))]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("time: at", "time: when", "line 3: segments.0.csv: "),
        ("blend: 0", "transform: {rotate: 90}", "line 4: segments.1.transform: the source has vectors"),
        ("csv: south.csv", "csv: {path: south.csv, features: [a]}", "its vectors have 1 numbers, those of"),
        ("name: stations", "name: stations\nloop: twice", "line 2: loop: "),
    ],
)
def test_what_is_wrong_with_a_scenario_of_tables_is_said_with_file_line_and_key(
    before: str, after: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidScenario) as refused:
        stations(tmp_path, OWN.replace(before, after))
    assert said in str(refused.value)
    assert str(tmp_path / "own.yaml") in str(refused.value)


def test_a_stream_of_malformed_vectors_has_every_kind_that_vectors_can_have(tmp_path: Path) -> None:
    scenario = stations(tmp_path, OWN.replace("blend: 0", "malformed: 1"))
    records = Records(Order(scenario, 0), tmp_path)
    reasons = set()
    for index in range(16, 32):
        record, reason = records.at(index), records.order.at(index).fault
        reasons.add(reason)
        with pytest.raises(Exception, match=r".") as refused:
            decode(record.value, record.headers, scenario.layout)
        assert refused.value.reason == reason  # type: ignore[attr-defined] # MalformedRecord
    assert {"not_finite", "wrong_dtype", "wrong_shape"} <= reasons
    assert not {"undecodable", "damaged", "too_costly"} & reasons


@pytest.mark.parametrize(("loop", "lap"), [("stream", 32), ("segment", 14)])
def test_a_scenario_without_an_end_repeats_the_stream_or_its_last_segment(
    loop: str, lap: int, tmp_path: Path
) -> None:
    text = OWN.replace("name: stations", f"name: stations\nloop: {loop}").replace(
        "time: at}", "time: at}, blend: 4"
    )
    scenario = stations(tmp_path, text)
    assert scenario.loop is not None
    order = EndlessOrder(scenario, 0, loop=scenario.loop)
    assert (order.total, order.lap_length) == (None, lap)
    once = [order.at(index) for index in range(32)]
    assert once == [Order(scenario, 0).at(index) for index in range(32)]
    later = [order.at(index) for index in range(32, 32 + 3 * lap)]
    assert {place.segment for place in later} == ({0, 1} if loop == "stream" else {1})
    if loop == "segment":
        laps = [[place.row for place in later[n * lap : (n + 1) * lap]] for n in range(3)]
        assert all(len(set(rows)) == lap for rows in laps)
        assert laps[0] != laps[1] != laps[2]


# generators


@pytest.mark.parametrize("generator", GENERATORS)
def test_a_generator_draws_equally_many_rows_of_each_class_and_other_ones_for_the_probe(
    generator: str, tmp_path: Path
) -> None:
    source = Synth(generator=generator, rows=300)  # type: ignore[arg-type] # an alias
    train = source.rows("train", tmp_path)
    assert source.facts("train", tmp_path).rows_of_class == (150, 150) == tuple(np.bincount(train.y_N))
    assert train.shape == source.facts("train", tmp_path).shape == (GENERATORS[generator][1],)
    test = source.rows("test", tmp_path)
    assert len(test) == 2000
    assert not {tuple(x) for x in vectors_of(train)} & {tuple(x) for x in vectors_of(test)}
    assert vectors_of(train) == vectors_of(Synth(generator=generator, rows=300).rows("train", tmp_path))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"depth": 3}, "Sine of river fails"), ({"classification_function": 9}, "Sine of river fails")],
)
def test_arguments_that_river_does_not_take_are_refused(
    arguments: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataUnavailable, match=said):
        Synth(generator="sine", arguments=arguments).rows("train", tmp_path)
