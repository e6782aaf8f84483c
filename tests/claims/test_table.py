"""The table of claims holds what is claimed, and nothing else."""

import csv
from pathlib import Path

from supertwin.claims.result import Statement

TABLE = Path(__file__).parents[2] / "src" / "supertwin" / "data" / "claims.csv"


def test_columns_are_those_of_a_statement() -> None:
    with TABLE.open(encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    assert list(rows[0]) == list(Statement.__slots__)
    assert len(rows) == 25
    assert all(row["id"] and row["claim"] and row["quantity"] for row in rows)
