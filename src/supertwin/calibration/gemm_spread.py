"""90 % half-widths of groups of matrix products, from rows that the fit in question did not see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from supertwin.calibration.common import FEW_ROWS_SPREAD
from supertwin.calibration.gemm_fit import FEW_ROWS, GemmFit, GemmUnit, held_out_masks
from supertwin.calibration.tables import GemmRows
from supertwin.cost.calibration import Calibration
from supertwin.cost.gemm import gemm_cost
from supertwin.cost.surface import Array

_FOLDS = 10
_UNSEEN_ROWS = 20  # held-out rows from which they stand alone
_FLOOR_ROWS = 40  # rows of a unit below which the spread is at least FEW_ROWS_SPREAD
_SMALLEST = 0.05  # assumption: two runs of one kernel on two boards agree no better
_FOLD_SEED = 20261121
Refit = Callable[[GemmUnit], GemmFit]


def unit_spread(found: GemmFit, refit: Refit) -> float:
    """90 % half-width of ln(measured / predicted) of a fitted unit.

    From its held-out rows where there are 20. A smaller unit is fitted again (`refit`, on the unit that is passed)
    without each of ten parts of its rows in turn; below 40 rows it is at least FEW_ROWS_SPREAD, whatever they say.
    """
    unit = found.unit
    masks = held_out_masks(unit.parts)
    if sum(int(mask.sum()) for mask in masks) >= _UNSEEN_ROWS:
        return _bounded(_log_ratios(found, [p.take(m) for p, m in zip(unit.parts, masks, strict=True)]), unit.rows)
    if unit.rows < FEW_ROWS:
        return FEW_ROWS_SPREAD
    fold = np.random.default_rng(_FOLD_SEED).permutation(unit.rows) % _FOLDS
    ratios = [np.zeros(0)]
    for left_out in range(min(_FOLDS, unit.rows)):
        fitted = refit(GemmUnit(unit.chip, unit.context, unit.key, _taken(unit.parts, fold != left_out)))
        ratios.append(_log_ratios(fitted, _taken(unit.parts, fold == left_out)))
    return _bounded(np.concatenate(ratios), unit.rows)


def _bounded(log_ratios: Array, rows: int) -> float:
    least = FEW_ROWS_SPREAD if rows < _FLOOR_ROWS else _SMALLEST
    return round(max(float(np.quantile(np.abs(log_ratios), 0.9)), least), 4)


def _log_ratios(found: GemmFit, parts: Sequence[GemmRows]) -> Array:
    """ln(measured / predicted) of rows, through the function that the twin calls."""
    unit = found.unit
    surfaces = {} if found.surface is None else {unit.key: found.surface}
    alone = Calibration("gemm", unit.chip.name, parameters={unit.key: found.parameters}, surfaces=surfaces)
    times = [(p.time_s, gemm_cost(unit.chip, alone, p.gemm, replace(p.conditions, context="")).time_s) for p in parts]
    return np.concatenate([np.log(measured / predicted) for measured, predicted in times])


def _taken(parts: Sequence[GemmRows], mask: npt.NDArray[np.bool_]) -> tuple[GemmRows, ...]:
    """Rows of all parts by one mask over them in order; parts that are left empty are dropped."""
    ends = np.cumsum([len(p) for p in parts])[:-1]
    taken = (p.take(m) for p, m in zip(parts, np.split(mask, ends), strict=True))
    return tuple(p for p in taken if len(p))
