"""Rows of collectives.csv: time of one collective."""

from __future__ import annotations

from collections.abc import Sequence

from supertwin.validation.outcome import Compared, Skip
from supertwin.validation.predictors.common import figure, one_by_one
from supertwin.validation.tables import Row

_DEFAULT_FACTORS = (1.0, 1.0)


def compare(rows: Sequence[Row]) -> list[Compared | Skip]:
    """collective_time_s of each row."""
    return one_by_one(rows, _compare)


def _compare(row: Row) -> Compared:
    from supertwin.network.rows import predict_collective_row

    return Compared(tuple(figure(*entry[:3], _DEFAULT_FACTORS) for entry in [predict_collective_row(row)]))  # type: ignore[arg-type]
