"""A whole training run and its scaling curves, as terminal text and as JSON fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.text import Text

from supertwin.report.tables import grid, heading, pairs
from supertwin.report.text import UNKNOWN, bar, number, percent, si, usd
from supertwin.training.run_bill import RunBill
from supertwin.training.scaling import FABRIC, IDEAL, KINDS, NODES, ScalingPoint, efficiency

if TYPE_CHECKING:
    from rich.console import RenderableType

Curves = Mapping[tuple[str, str], Sequence[ScalingPoint]]
_WIDTH = 12
_NOTES = {"strong": "the same batch at every size", "weak": "the batch grows with the devices"}


def run_fields(run: RunBill) -> dict[str, Any]:
    """JSON fields of a run; ranges as {low, high}."""
    return {
        name: {"low": value[0], "high": value[1]} if isinstance(value, tuple) else value
        for name, value in asdict(run).items()
    }


def run_view(run: RunBill) -> list[RenderableType]:
    """What the run takes."""
    low, high = run.days_range
    rows = [
        ("time", f"{number(run.days)} days  (90 %: {number(low)} to {number(high)})"),
        ("steps", f"{run.steps:,.0f}"),
        ("device hours", f"{run.device_hours:,.0f}"),
    ]
    if run.card_hours != run.device_hours:
        rows.append(("card hours", f"{run.card_hours:,.0f}, two dies to a card"))
    rows += [
        ("card hours per day", f"{run.card_hours_per_day:,.0f}"),
        ("tokens per day", _tokens(run.tokens_per_day)),
        ("energy", UNKNOWN if run.energy_mwh is None else f"{number(run.energy_mwh)} MWh, cooling included"),
        ("cost", _cost(run)),
    ]
    if run.co2_kg is not None:
        rows.append(("CO2", f"{number(run.co2_kg / 1e3)} t at the factor given"))
    note = "steady steps: no failures, restarts or evaluation"
    return [Text(), heading(f"A run of {_tokens(run.tokens)}", note), pairs(rows)]


def _tokens(count: float) -> str:
    """13.2e12 as '13.2 T tokens'."""
    return f"{si(count, '').strip()} tokens"


def _cost(run: RunBill) -> str:
    if run.usd_range is None:
        return UNKNOWN
    low, high = run.usd_range
    return f"{usd(run.usd)}  (90 %: {usd(low)} to {usd(high)})"


def scaling_fields(curves: Curves) -> list[dict[str, Any]]:
    """JSON rows, one per fabric, kind and size; null where nothing fits."""
    rows = []
    for (fabric, kind), points in curves.items():
        for point, share in zip(points, efficiency(points), strict=True):
            tuned = point.tuned if point.tuned and point.tuned.fits else None
            layout = tuned.case.layout if tuned else None
            rows.append(
                {
                    "fabric": fabric,
                    "kind": kind,
                    "devices": point.devices,
                    "global_batch": point.global_batch,
                    "tokens_per_s_per_device": point.tokens_per_s_per_device or None,
                    "step_time_s": tuned.step_time_s if tuned else None,
                    "efficiency": share,
                    "layout": None if layout is None else {n: getattr(layout, n) for n in layout.__slots__},
                    "micro_batch": tuned.case.micro_batch if tuned else None,
                    "recompute": tuned.case.recompute if tuned else None,
                }
            )
    return rows


def scaling_view(curves: Curves) -> list[RenderableType]:
    """Per kind one table: rate and efficiency on the fabric, share of the ideal one, and what the bus is worth."""
    view: list[RenderableType] = []
    for kind in KINDS:
        points, ideal = curves[FABRIC, kind], curves[IDEAL, kind]
        cut = curves.get((NODES, kind))
        header = ("devices", "tokens/s per device", "efficiency", "of ideal", *(("bus gives",) if cut else ()), "")
        rows: list[tuple[str | Text, ...]] = []
        for index, (point, share) in enumerate(zip(points, efficiency(points), strict=True)):
            rate = point.tokens_per_s_per_device
            cells = [f"{point.devices:,}", number(rate) if rate else "no layout fits", percent(share)]
            cells.append(percent(_ratio(rate, ideal[index])))
            if cut:
                times = _ratio(rate, cut[index])
                cells.append(UNKNOWN if times is None else f"{times:.2f}x")
            rows.append((*cells, Text(bar(share or 0.0, _WIDTH), style="green")))
        view += [
            Text(),
            heading(f"{kind.capitalize()} scaling", _NOTES[kind]),
            grid(header, rows, wrap=len(header) - 1),
        ]
    explained = "of ideal: share of the rate if communication cost nothing"
    if (NODES, KINDS[0]) in curves:
        explained += "; bus gives: over a scale-up that ends at the node"
    return [*view, Text("  " + explained, style="dim")]


def _ratio(rate: float, other: ScalingPoint) -> float | None:
    return rate / other.tokens_per_s_per_device if rate and other.tokens_per_s_per_device else None
