"""Errors on operator rows that no fit has seen, as text and as JSON fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from supertwin.report.tables import grid, heading
from supertwin.report.text import UNKNOWN

if TYPE_CHECKING:
    from rich.console import RenderableType

GOAL = 0.10  # median error that counts as met, for products, attention, experts and norms each
_WITH_GOAL = ("gemm", "attention", "moe", "norm")
_HEADER = ("chip", "kind", "fitted", "held out", "judged", "median", "p90", "bias")


def operators_view(
    rows: Sequence[Mapping[str, Any]], overall: Mapping[str, Mapping[str, float]]
) -> list[RenderableType]:
    """Table by chip and kind, then all chips together; errors in per cent."""
    note = "shapes that no fit has seen, per cent: |predicted / measured - 1|, signed bias"
    view: list[RenderableType] = [heading("Operators", note)]
    view.append(grid(_HEADER, [_cells(row) for row in rows], left=2))
    if overall:
        lines = [(name, str(e["n"]), *_errors(e), _goal(name, e["median_ape"])) for name, e in overall.items()]
        view += [heading("All chips", f"goal: a median of at most {100.0 * GOAL:.0f}")]
        view.append(grid(("", "judged", "median", "p90", "bias", "goal"), lines))
    return view


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    counts = (str(row["n_fit"]), str(row["n_held_out"]), str(row["n"]))
    errors = _errors(row) if row["n"] else (UNKNOWN, UNKNOWN, UNKNOWN)
    return (str(row["chip"]), str(row["kind"]), *counts, *errors)


def _errors(row: Mapping[str, Any]) -> tuple[str, str, str]:
    bias = UNKNOWN if row["bias"] is None else f"{100.0 * row['bias']:+.1f}"
    return f"{100.0 * row['median_ape']:.1f}", f"{100.0 * row['p90_ape']:.1f}", bias


def _goal(name: str, median: float) -> str:
    if name not in _WITH_GOAL:
        return ""
    return "met" if median <= GOAL else "missed"
