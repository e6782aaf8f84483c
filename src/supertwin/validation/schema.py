"""The columns of the measurement tables, as data: `data/measurements/schema.csv` holds one line per column."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

from supertwin.core.errors import UnknownName

Value = str | int | float | bool | None

_DATE = re.compile(r"\d{4}(-\d{2}(-\d{2})?)?")
_INT = re.compile(r"[+-]?\d{1,18}(\.0*)?")
_LONGEST_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Column:
    """One column of one table.

    type: str | int | float | flag (0/1) | list (semicolons) | date; unit as printed in the table; vocabulary: closed
    list of legal words (empty = any); minimum and maximum: inclusive, None = open.
    """

    table: str
    name: str
    type: str
    unit: str
    minimum: float | None
    maximum: float | None
    vocabulary: tuple[str, ...]
    required: bool
    description: str

    def parse(self, cell: str) -> Value:
        """Value of a cell, None when it is empty. Raises ValueError with what was expected."""
        cell = cell.strip()
        if not cell:
            return None
        if self.type in ("int", "float"):
            return self._number(cell)
        if self.type == "flag":
            if cell not in ("0", "1"):
                raise ValueError(self._expected("0 or 1", cell))
            return cell == "1"
        if self.type == "list":
            return ";".join(part.strip() for part in cell.split(";") if part.strip())
        if self.type == "date" and not _DATE.fullmatch(cell):
            raise ValueError(self._expected("YYYY, YYYY-MM or YYYY-MM-DD", cell))
        if self.vocabulary and cell not in self.vocabulary:
            raise ValueError(self._expected("one of " + ", ".join(self.vocabulary), cell))
        return cell

    def _number(self, cell: str) -> int | float:
        if self.type == "int":
            if not _INT.fullmatch(cell):
                raise ValueError(self._expected("a whole number", cell))
            number: int | float = int(cell.split(".")[0])
        else:
            try:
                number = float(cell)
            except ValueError:
                raise ValueError(self._expected("a number", cell)) from None
            if not abs(number) < 1e300:
                raise ValueError(self._expected("a finite number", cell))
        if self.minimum is not None and number < self.minimum:
            raise ValueError(self._expected(f"at least {self.minimum:g}", cell))
        if self.maximum is not None and number > self.maximum:
            raise ValueError(self._expected(f"at most {self.maximum:g}", cell))
        return number

    def _expected(self, what: str, cell: str) -> str:
        shown = cell if len(cell) <= _LONGEST_SHOWN else cell[:_LONGEST_SHOWN] + "..."
        return f"{self.name}: expected {what}, got {shown!r}"


@cache
def _schemas() -> dict[str, dict[str, Column]]:
    path = resources.files("supertwin") / "data" / "measurements" / "schema.csv"
    tables: dict[str, dict[str, Column]] = {}
    for line in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
        column = Column(
            table=line["table"],
            name=line["column"],
            type=line["type"],
            unit=line["unit"],
            minimum=float(line["minimum"]) if line["minimum"] else None,
            maximum=float(line["maximum"]) if line["maximum"] else None,
            vocabulary=tuple(line["vocabulary"].split("|")) if line["vocabulary"] else (),
            required=line["required"] == "1",
            description=line["description"],
        )
        tables.setdefault(column.table, {})[column.name] = column
    return tables


def table_names() -> list[str]:
    """Kinds of table: collectives, inference, kernels, memory_reference, operations, training."""
    return sorted(_schemas())


def columns(table: str) -> dict[str, Column]:
    """Columns of a table by name. Raises UnknownName."""
    try:
        return _schemas()[table]
    except KeyError:
        raise UnknownName("table", table, table_names()) from None


def nearest_table(header: set[str]) -> str:
    """The table whose columns a header resembles most."""
    return max(table_names(), key=lambda name: len(header & _schemas()[name].keys()))
