"""Systems side by side, as text and as JSON fields: figures, ratios and their ranges from machine.inventory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from supertwin.core.units import SI_UNITS, format_quantity
from supertwin.machine import Comparison, Figure, Ratio, System, compare
from supertwin.report.tables import grid, heading
from supertwin.report.text import UNKNOWN, gib, number, whole

if TYPE_CHECKING:
    from rich.console import RenderableType

_BESIDE = 2  # systems beside the first one in 100 columns


def comparison_fields(systems: Sequence[System]) -> list[dict[str, Any]]:
    """JSON rows: one quantity each, values and ratios to the first by system with the range of the open readings."""
    found = compare(systems)
    rows = []
    for name, figures in found.figures:
        ratios = found.to_first(name)
        known = next(figure for figure in figures if figure is not None)
        rows.append(
            {
                "quantity": name,
                "label": known.label,
                "unit": SI_UNITS[known.dimension],
                "values": [None if f is None else whole(f.value) for f in figures],
                "low": [None if f is None else whole(min(f.readings)) for f in figures],
                "high": [None if f is None else whole(max(f.readings)) for f in figures],
                "ratios": [None if r is None else r.value for r in ratios],
                "ratio_low": [None if r is None else r.low for r in ratios],
                "ratio_high": [None if r is None else r.high for r in ratios],
                "sources": [[] if f is None else list(f.sources) for f in figures],
            }
        )
    return rows


def comparison_view(systems: Sequence[System]) -> list[RenderableType]:
    """Side by side, each later column with its ratio to the first system; a few systems to a table."""
    first, others = systems[0], systems[1:]
    view: list[RenderableType] = [
        heading("Side by side", "in brackets: ratio to the first; readings: range where sources disagree")
    ]
    for start in range(0, len(others), _BESIDE):
        view += [_table((first, *others[start : start + _BESIDE])), Text()]
    return view[:-1]


def _table(systems: Sequence[System]) -> RenderableType:
    found = compare(systems)
    rows: list[tuple[str, ...]] = []
    for name, figures in found.figures:
        if next(figure for figure in figures if figure is not None).dimension == "ratio":
            continue  # reciprocals of what is shown; they are in the JSON fields
        ratios = found.to_first(name)
        rows.append((name.replace("_per_device", " / device").replace("_", " "), *_cells(figures, ratios)))
        rows += [
            row for row in (("  readings", *_ranges(figures)), ("  ratio", *_ratio_ranges(ratios))) if any(row[1:])
        ]
    return grid(("", *_names(found, systems)), rows)


def _names(found: Comparison, systems: Sequence[System]) -> list[str]:
    return [f"{name}:{system.devices}" for name, system in zip(found.systems, systems, strict=True)]


def _cells(figures: Sequence[Figure | None], ratios: Sequence[Ratio | None]) -> list[str]:
    """Chosen values, from the second system on with the ratio."""
    cells = []
    for index, (figure, ratio) in enumerate(zip(figures, ratios, strict=True)):
        shown = UNKNOWN if figure is None else _value(figure, figure.value)
        cells.append(shown if index == 0 or ratio is None else f"{shown} ({number(ratio.value, 3)}x)")
    return cells


def _ranges(figures: Sequence[Figure | None]) -> list[str]:
    """Ranges over the open readings; empty where there is one reading only."""
    return ["" if f is None or not f.alternatives else _range(f) for f in figures]


def _range(figure: Figure) -> str:
    low, high = (_value(figure, end(figure.readings)) for end in (min, max))
    unit = high.rpartition(" ")[2]
    return f"{low.removesuffix(' ' + unit)} to {high}" if low != high else ""


def _ratio_ranges(ratios: Sequence[Ratio | None]) -> list[str]:
    """Ranges of the ratios over the readings of both systems."""
    return [
        "" if ratio is None or ratio.low == ratio.high else f"({number(ratio.low, 3)} to {number(ratio.high, 3)}x)"
        for ratio in ratios
    ]


def _value(figure: Figure, value: float) -> str:
    binary = figure.dimension == "bytes" and figure.name != "memory_printed"
    return gib(value) if binary else format_quantity(value, figure.dimension)
