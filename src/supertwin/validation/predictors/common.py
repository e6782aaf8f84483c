"""What all predictors share: turning errors into skipped rows, and cached catalogue entries."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

from supertwin.core.errors import InputError, SupertwinError
from supertwin.machine.system import System
from supertwin.model.spec import ModelSpec
from supertwin.validation.outcome import Compared, Figure, Skip
from supertwin.validation.tables import Row

_LONGEST_REASON = 300


class NoPrediction(InputError):
    """The row does not state what a prediction needs."""


def one_by_one(rows: Sequence[Row], compare: Callable[[Row], Compared]) -> list[Compared | Skip]:
    """Apply a row predictor; any error becomes the reason for skipping that row."""
    return [attempt(row, compare) for row in rows]


def attempt(row: Row, compare: Callable[[Row], Compared]) -> Compared | Skip:
    """One row. Errors meant for users skip it; others too, marked as internal."""
    try:
        compared = compare(row)
    except SupertwinError as error:
        return Skip(row.id, str(error)[:_LONGEST_REASON], row.table)
    except Exception as error:
        reason = f"internal: {type(error).__name__}: {' '.join(str(error).split())}"
        return Skip(row.id, reason[:_LONGEST_REASON], row.table, internal=True)
    broken = [f.metric for f in compared.figures if not (_positive(f.predicted) and _positive(f.measured))]
    if broken:
        return Skip(row.id, f"internal: {broken[0]} is not a positive number", row.table, internal=True)
    return compared if compared.figures else Skip(row.id, "states no figure to compare", row.table)


def figure(metric: str, measured: float, predicted: float, factors: tuple[float, float]) -> Figure:
    """A figure whose interval is `factors` (low, high) times the prediction."""
    return Figure(metric, measured, predicted, predicted * min(factors), predicted * max(factors))


def rate_factors(time_factors: tuple[float, float]) -> tuple[float, float]:
    """Interval factors of a rate from those of the time: inverted and swapped."""
    low, high = time_factors
    return 1.0 / high, 1.0 / low


@cache
def model_named(name: str) -> ModelSpec:
    """A shipped model, read once."""
    from supertwin.model import load_model

    return load_model(name)


@cache
def system_of(chip: str, devices: int, system: str = "") -> System:
    """`system` with `devices` in use; without a name, the one that the chip is normally found in."""
    from supertwin.machine import load_system, system_for_chip

    return load_system(f"{system}:{devices}") if system else system_for_chip(chip, devices)


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0.0
