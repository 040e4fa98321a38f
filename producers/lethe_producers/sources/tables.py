"""Rows of tables, in Parquet and CSV files, as sources: each row is a vector."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from lethe.errors import DataUnavailable
from lethe.wire import Labels
from lethe_producers.sources.base import Classes, Integers, Rows
from lethe_producers.sources.files import FileSource

if TYPE_CHECKING:
    from pyarrow import ChunkedArray, Table

__all__ = ["Csv", "Parquet"]

Column = Annotated[str, Field(min_length=1)]


class TableSource(FileSource):
    """A table with a column of labels; the other columns of numbers are the vector."""

    label: Column = "label"
    """Column of the labels: whole numbers, or names."""
    features: Annotated[tuple[Column, ...], Field(min_length=1)] | None = None
    """Columns of the vector, in this order. By default all columns of numbers but label and time."""
    time: Column | None = None
    """Column by which rows are streamed in order. Without it they are shuffled."""

    @property
    def ordered(self) -> bool:
        """Whether rows are streamed in their own order."""
        return self.time is not None

    def every_row(self) -> Rows:
        """Read the table. Raises DataUnavailable, naming the file and the column or the line."""
        from pyarrow import ArrowException  # takes a while, and most scenarios need none

        try:
            table = self._read()
        except (OSError, ArrowException) as error:
            raise DataUnavailable(f"{self.place} cannot be read: {' '.join(str(error).split())}") from error
        names = self._columns(table)
        columns = [self._numbers(name, table.column(name)) for name in names]
        x_NF = np.stack(columns, 1) if table.num_rows else np.empty((0, len(names)), np.float32)
        classes, y_N = self._labels(table.column(self.label))
        rows = Rows(y_N, (len(names),), classes, lambda chosen: x_NF[chosen])
        if self.time is None:
            return rows
        times = table.column(self.time)
        self._require_complete(self.time, times)
        order: Integers = np.argsort(times.to_numpy(), kind="stable")
        return rows.chosen(order)

    @abstractmethod
    def _read(self) -> "Table":
        """Return the file's table. Raises ArrowException, OSError."""

    @property
    @abstractmethod
    def _first_line(self) -> int | None:
        """Line of the first row in the file; None if the file has no lines."""

    def _columns(self, table: "Table") -> list[str]:
        from pyarrow import types

        others = {self.label, self.time}
        numbers = [
            field.name
            for field in table.schema
            if field.name not in others
            and (
                types.is_integer(field.type) or types.is_floating(field.type) or types.is_boolean(field.type)
            )
        ]
        names = list(self.features or numbers)
        wanted = {"label": [self.label], "features": names, "time": [self.time] if self.time else []}
        for key, columns in wanted.items():
            if missing := [name for name in columns if name not in table.column_names]:
                raise DataUnavailable(
                    f"{self.place} has no column {', '.join(missing)} ({key}), only"
                    f" {', '.join(table.column_names)}"
                )
        if not names:
            raise DataUnavailable(
                f"{self.place} has no columns of numbers beside {self.label}: name features"
            )
        return names

    def _numbers(self, name: str, column: "ChunkedArray") -> npt.NDArray[np.float32]:
        """Return a column of the vector. Raises DataUnavailable, naming the line of what is no number."""
        from pyarrow import types

        kind = column.type
        if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
            raise DataUnavailable(f"{self.place}: column {name} is {kind}, and a vector has numbers")
        self._require_complete(name, column)
        with np.errstate(over="ignore"):  # what becomes infinite is reported
            numbers: npt.NDArray[np.float32] = column.to_numpy().astype(np.float32)
        if not np.isfinite(numbers).all():
            row = int(np.flatnonzero(~np.isfinite(numbers))[0])
            raise DataUnavailable(f"{self.place}, {self._line(row)}: {name} is no finite float32 number")
        return numbers

    def _labels(self, column: "ChunkedArray") -> tuple[Classes, Labels]:
        from pyarrow import types

        self._require_complete(self.label, column)
        if types.is_integer(column.type):
            y_N: Labels = column.to_numpy().astype(np.int64)
            if len(y_N) and y_N.min() < 0:
                row = int(y_N.argmin())
                raise DataUnavailable(f"{self.place}, {self._line(row)}: label {y_N[row]} is negative")
            return Classes(int(y_N.max()) + 1 if len(y_N) else 0), y_N
        if not (types.is_string(column.type) or types.is_large_string(column.type)):
            raise DataUnavailable(
                f"{self.place}: column {self.label} is {column.type}; labels are whole numbers or names"
            )
        names: list[str] = column.to_pylist()
        classes, labels = Classes.named(names)
        return classes, np.array([labels[name] for name in names], np.int64)

    def _require_complete(self, name: str, column: "ChunkedArray") -> None:
        if column.null_count:
            empty: Any = column.is_null().to_numpy()
            row = int(np.flatnonzero(empty)[0])
            raise DataUnavailable(f"{self.place}, {self._line(row)}: {name} is empty")

    def _line(self, row: int) -> str:
        return f"row {row}" if self._first_line is None else f"line {row + self._first_line}"


class Parquet(TableSource):
    """A table in one Parquet file."""

    def _read(self) -> "Table":
        from pyarrow import parquet

        return parquet.read_table(self.place)

    @property
    def _first_line(self) -> int | None:
        return None


class Csv(TableSource):
    """A table in one CSV file, whose first line names the columns."""

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """What separates columns."""

    def _read(self) -> "Table":
        from pyarrow import csv

        parse = csv.ParseOptions(delimiter=self.delimiter)
        single = csv.ReadOptions(use_threads=False)  # with which errors name the row
        return csv.read_csv(self.place, read_options=single, parse_options=parse)

    @property
    def _first_line(self) -> int | None:
        return 2
