"""Reading measurement tables: every column of every row is checked against the schema.

A file that is not such a table is an error (TableError). A row that breaks the rules is left out, with its reason.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from supertwin.core.errors import TableError, nearest_sentence
from supertwin.validation.outcome import Skip
from supertwin.validation.schema import Column, Value, columns, nearest_table

_MOST_BYTES = 256 * 2**20
_LONGEST_CELL = 1 << 20


class Row(Mapping[str, Value]):
    """One row: typed values by column name, None where the source states nothing (also for columns the file lacks).

    Units are those of the table (`schema.columns`).
    """

    __slots__ = ("_values", "line", "table")

    def __init__(self, table: str, line: int, values: Mapping[str, Value]) -> None:
        self.table, self.line = table, line
        self._values = {name: values.get(name) for name in columns(table)}

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        stated = {name: value for name, value in self._values.items() if value is not None}
        return f"Row({self.table!r}, {self.line}, {stated!r})"

    @property
    def id(self) -> str:
        """Unique name of the row."""
        return self.text("id")

    @property
    def flags(self) -> frozenset[str]:
        """Words of the flags column."""
        return frozenset(self.text("flags").split(";")) - {""}

    def cells(self) -> dict[str, str]:
        """All values as text, empty where not stated; numbers in the shortest form that reads back the same."""
        return {name: "" if value is None else _cell(value) for name, value in self._values.items()}

    def text(self, name: str, default: str = "") -> str:
        """A word, or `default` where not stated."""
        value = self._values.get(name)
        return default if value is None else str(value)

    def number(self, name: str) -> float | None:
        """A float, None where not stated."""
        value = self._values.get(name)
        return float(value) if isinstance(value, int | float) else None

    def integer(self, name: str) -> int | None:
        """A whole number, None where not stated."""
        value = self._values.get(name)
        return int(value) if isinstance(value, int | float) else None


@dataclass(frozen=True, slots=True)
class Table:
    """A table as read: `rows` in the order of the file and `skipped` rows with the reason."""

    name: str
    rows: tuple[Row, ...]
    skipped: tuple[Skip, ...]


def load(table: str, path: str | Path | None = None) -> Table:
    """Read a table of kind `table` from a CSV file, or the shipped one.

    Raises TableError (not readable, not text, not such a table, unknown column).
    """
    if path is None:
        source: Path | Traversable = resources.files("supertwin") / "data" / "measurements" / f"{table}.csv"
    else:
        source = Path(path)
    return parse(table, _text(source), str(path or f"{table}.csv"))


def parse(table: str, text: str, where: str) -> Table:
    """Rows of CSV text; `where` names the file in errors. Raises TableError."""
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""))
    rows: list[Row] = []
    skipped: list[Skip] = []
    try:
        header = _header(table, next(reader, []), where)
        for cells in reader:
            if any(cell.strip() for cell in cells):
                row = _row(header, cells, reader.line_num)
                (rows if isinstance(row, Row) else skipped).append(row)  # type: ignore[arg-type]
    except csv.Error as error:
        raise TableError(f"{where}: line {reader.line_num} is not CSV ({error})") from None
    return Table(table, tuple(rows), tuple(skipped))


def _cell(value: Value) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _text(source: Path | Traversable) -> str:
    try:
        if isinstance(source, Path) and source.stat().st_size > _MOST_BYTES:
            raise TableError(f"{source}: larger than {_MOST_BYTES >> 20} MiB; expected a measurement table")
        data = source.read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise TableError(f"cannot read {source}: {why}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(f"{source}: not UTF-8 text (byte {error.start}); expected a CSV file") from None
    if "\0" in text:
        raise TableError(f"{source}: holds NUL bytes; expected a CSV file")
    return text


def _header(table: str, names: Sequence[str], where: str) -> list[Column]:
    legal = columns(table)
    names = [name.strip() for name in names]
    if not any(names):
        raise TableError(f"{where}: empty; expected a header with the columns of {table}.csv ({', '.join(legal)})")
    unknown = [name for name in names if name not in legal]
    missing = [name for name, column in legal.items() if column.required and name not in names]
    likely = nearest_table(set(names))
    known = len(set(names) & columns(likely).keys())
    if (unknown or missing) and known > max(len(names) / 2, len(set(names) & legal.keys())):
        raise TableError(f"{where}: has the columns of {likely}.csv; expected {table}.csv")
    if unknown:
        hint = nearest_sentence(unknown[0], sorted(legal))
        raise TableError(f"{where}: unknown column {unknown[0][:60]!r} for {table}.csv; {hint}")
    if missing:
        raise TableError(f"{where}: lacks the column {', '.join(missing)}; {table}.csv needs it")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TableError(f"{where}: column {twice[0]!r} is there twice")
    return [legal[name] for name in names]


def _row(header: Sequence[Column], cells: Sequence[str], line: int) -> Row | Skip:
    named = dict(zip((column.name for column in header), cells, strict=False))
    row_id = named.get("id", "").strip()[:200] or f"line {line}"
    if len(cells) != len(header):
        return Skip(row_id, f"line {line} has {len(cells)} cells, the header {len(header)}")
    values: dict[str, Value] = {}
    for column, cell in zip(header, cells, strict=True):
        try:
            values[column.name] = column.parse(cell)
        except ValueError as error:
            return Skip(row_id, str(error))
        if column.required and values[column.name] is None:
            return Skip(row_id, f"{column.name}: empty")
    return Row(header[0].table, line, values)
