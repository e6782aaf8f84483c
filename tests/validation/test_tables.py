"""Measurement tables: the shipped ones are read completely; anything else is refused or skipped with a reason."""

from __future__ import annotations

import csv
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.core.errors import TableError, UnknownName
from supertwin.validation import tables
from supertwin.validation.schema import columns, table_names

ROWS = {
    "training": 2545,
    "inference": 1540,
    "kernels": 999,
    "collectives": 952,
    "operations": 232,
    "memory_reference": 32,
}
HEADER = "id,chip,kernel,dtype,m,n,k,direction,measured_us\n"
GOOD = "a,h100-sxm,gemm,bf16,4096,4096,4096,fwd,250\n"


@pytest.mark.parametrize("table", sorted(ROWS))
def test_shipped_tables_are_read_completely(table: str) -> None:
    read = tables.load(table)
    assert len(read.rows) == ROWS[table]
    assert read.skipped == ()
    assert len({row.id for row in read.rows}) == ROWS[table]


@pytest.mark.parametrize("table", sorted(ROWS))
def test_schema_names_every_column_of_the_shipped_table(table: str) -> None:
    path = resources.files("supertwin") / "data" / "measurements" / f"{table}.csv"
    header = next(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    assert sorted(header) == sorted(columns(table))
    assert all(column.description for column in columns(table).values())


def test_schema_agrees_with_the_list_of_tables() -> None:
    assert table_names() == sorted(ROWS)
    with pytest.raises(UnknownName, match="did you mean kernels"):
        columns("kernel")


def test_values_are_typed() -> None:
    row = next(row for row in tables.load("training").rows if row.id == "a3-cpt-dsv32-32k")
    assert row["n_devices"] == 128
    assert isinstance(row["measured_tokens_per_s_per_device"], float)
    assert row["sequence_parallel"] is None
    assert {"offload", "uneven-stages", "suspicious"} == row.flags
    assert row.text("sequence_parallel", "unstated") == "unstated"


def test_missing_optional_columns_are_empty() -> None:
    table = tables.parse("kernels", HEADER + GOOD, "mine.csv")
    assert table.rows[0]["heads"] is None
    assert table.rows[0].number("measured_us") == 250.0


@pytest.mark.parametrize("text", ["\ufeff" + HEADER + GOOD, (HEADER + GOOD).replace("\n", "\r\n")])
def test_byte_order_mark_and_windows_lines(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kernels.csv"
    path.write_bytes(text.encode("utf-8"))
    assert len(tables.load("kernels", path).rows) == 1


def test_quoted_cells_may_hold_commas_and_lines() -> None:
    text = 'id,chip,kernel,notes\na,h100-sxm,gemm,"one, two\nthree ""four"""\n'
    assert tables.parse("kernels", text, "x").rows[0].text("notes") == 'one, two\nthree "four"'


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("a,h100-sxm,gemm,bf16,many,1,1,fwd,1", "m: expected a whole number, got 'many'"),
        ("a,h100-sxm,gemm,bf16,0,1,1,fwd,1", "m: expected at least 1"),
        ("a,h100-sxm,gemm,bf16,1.5,1,1,fwd,1", "m: expected a whole number"),
        ("a,h100-sxm,gemm,bf17,1,1,1,fwd,1", "dtype: expected one of"),
        ("a,h100-sxm,gemm,bf16,1,1,1,fwd,nan", "measured_us: expected a finite number"),
        ("a,h100-sxm,gemm,bf16,1,1,1,fwd,inf", "measured_us: expected a finite number"),
        ("a,h100-sxm,gemm,bf16,1,1,1,fwd,-3", "measured_us: expected at least 0"),
        ("a,h100-sxm,,bf16,1,1,1,fwd,1", "kernel: empty"),
        ("a,h100-sxm,gemm", "has 3 cells, the header 9"),
    ],
)
def test_a_bad_row_is_skipped_with_its_reason(cell: str, reason: str) -> None:
    table = tables.parse("kernels", HEADER + cell + "\n" + GOOD, "x")
    assert len(table.rows) == 1
    assert reason in table.skipped[0].reason
    assert table.skipped[0].id == "a"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty; expected a header"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not UTF-8 text"),
        (b"id,chip\x00,kernel\n", "NUL"),
        (b"id,chip,kernel,dtpye\n", "unknown column 'dtpye' for kernels.csv; did you mean dtype"),
        (b"id,chip\n", "lacks the column kernel"),
        (b"id,chip,kernel,chip\n", "column 'chip' is there twice"),
        (b"id,chip,op,message_bytes,nodes,path\n", "has the columns of collectives.csv; expected kernels.csv"),
        (b"id,chip,kernel\na,b," + b"x" * (2 << 20), "is not CSV"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "given.csv"
    path.write_bytes(data)
    with pytest.raises(TableError, match=message):
        tables.load("kernels", path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(TableError, match="cannot read"):
            tables.load("kernels", path)


@settings(max_examples=200, deadline=None)
@given(
    at=st.integers(0, len(HEADER + GOOD)),
    cut=st.integers(0, 30),
    put=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
)
def test_any_damage_is_an_error_or_a_reason(at: int, cut: int, put: str) -> None:
    text = HEADER + GOOD
    try:
        table = tables.parse("kernels", text[:at] + put + text[at + cut :], "x")
    except TableError:
        return
    assert all(skip.reason and skip.id for skip in table.skipped)
    for row in table.rows:
        assert row.id
        assert all(value is None or row[name] == value for name, value in row.items())
