"""Rows of inference.csv: throughput and latency of steps and deployments."""

from __future__ import annotations

from collections.abc import Sequence

from supertwin.validation.outcome import Compared, Figure, Skip
from supertwin.validation.predictors.common import NoPrediction, one_by_one
from supertwin.validation.tables import Row


def compare(rows: Sequence[Row]) -> list[Compared | Skip]:
    """Every metric that a row states."""
    return one_by_one(rows, _compare)


def _compare(row: Row) -> Compared:
    from supertwin.inference.rows import predict_row

    outcome = predict_row(row)
    if not isinstance(outcome, list):
        raise NoPrediction(outcome.reason)
    return Compared(tuple(Figure(*entry) for entry in outcome))
