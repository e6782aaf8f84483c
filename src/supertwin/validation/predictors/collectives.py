"""Rows of collectives.csv: time of one collective or transfer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

from supertwin.validation.outcome import Compared, Skip
from supertwin.validation.predictors.common import NoPrediction, figure, one_by_one
from supertwin.validation.tables import Row


def compare(rows: Sequence[Row]) -> list[Compared | Skip]:
    """collective_time_s of each row."""
    return one_by_one(rows, _compare)


def _compare(row: Row) -> Compared:
    from supertwin.network.rows import measured_collective_row, predict_collective_row

    cells = row.cells()
    measured, predicted = measured_collective_row(cells), predict_collective_row(cells)
    if isinstance(measured, str) or isinstance(predicted, str):
        raise NoPrediction(measured if isinstance(measured, str) else str(predicted))
    spread = _spread(row.text("chip"))
    return Compared((figure(predicted[0], measured[1], predicted[1], (math.exp(-spread), math.exp(spread))),))


@cache
def _spread(chip: str) -> float:
    """90 % half-width of ln(measured / predicted) of the links of a chip."""
    from supertwin.core.errors import SupertwinError
    from supertwin.machine import load_chip
    from supertwin.network.links import load_links

    try:
        return load_links(load_chip(chip)).spread
    except SupertwinError:
        return _UNKNOWN_SPREAD


_UNKNOWN_SPREAD = 0.5  # a chip outside the catalogue: about a factor of 1.6 either way
