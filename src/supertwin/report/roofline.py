"""Rooflines of the operators of a step: table, picture in letters, picture in a file, JSON fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import log10
from pathlib import Path
from string import ascii_letters
from typing import TYPE_CHECKING, Any

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from supertwin.core.errors import InputError, MissingExtra
from supertwin.inference.roofline import Point
from supertwin.report.bars import COLOURS
from supertwin.report.tables import heading
from supertwin.report.text import UNKNOWN, seconds, si

if TYPE_CHECKING:
    from rich.console import RenderableType

MOST_SHOWN = 16
_WIDTH, _HEIGHT = 62, 13
_HEADER = ("", "operator", "FLOP", "bytes", "F/B", "time", "peak", "HBM", "step")


def roofline_fields(points: Sequence[Point]) -> list[dict[str, Any]]:
    """JSON rows, one per operator of a kind of block."""
    return [
        {**{k: v for k, v in asdict(p).items() if k not in ("of_peak", "of_bandwidth", "rate")},
         "intensity_flop_per_byte": p.intensity, "flop_per_s": p.flop_per_s if p.rate else None,
         "peak_of": p.rate or None, "share_of_peak": p.of_peak, "share_of_bandwidth": p.of_bandwidth}
        for p in points
    ]  # fmt: skip


def largest(points: Sequence[Point], most: int = MOST_SHOWN) -> list[tuple[str, Point]]:
    """The operators that take most of the step, longest first, each with its letter."""
    ordered = sorted(points, key=lambda point: -point.share)[:most]
    return list(zip(ascii_letters, ordered, strict=False))


def roofline_view(points: Sequence[Point], roofs: Mapping[str, float], bandwidth: float) -> list[RenderableType]:
    """Table and picture of the operators that take longest. roofs: FLOP/s by format; bandwidth: bytes/s."""
    shown = largest(points)
    rest = len(points) - len(shown)
    note = "one execution; shares of peak, bandwidth and step"
    view: list[RenderableType] = [Text(), heading("Roofline of every operator", note), _table(shown)]
    if rest > 0:
        view.append(Text(f"  {rest} smaller operators are in --json", style="dim"))
    plotted = [(letter, point) for letter, point in shown if point.intensity]
    if plotted and roofs:
        view += [Text(), *_picture(plotted, roofs, bandwidth)]
    return view


def _table(shown: Sequence[tuple[str, Point]]) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for index, name in enumerate(_HEADER):
        table.add_column(name, justify="left" if index < 2 else "right", no_wrap=index != 1, overflow="fold")
    for letter, p in shown:
        title = Text.assemble((p.operator, COLOURS.get(p.bound, "")), "\n", (_about(p), "dim"))
        table.add_row(letter, title, *_numbers(p))
    return Padding(table, (0, 0, 0, 2), expand=False)


def _about(point: Point) -> str:
    words = ", ".join(word for word in (point.shape, point.bound, point.rate) if word)
    return f"{point.executions:g} x: {words}"


def _numbers(p: Point) -> tuple[str, ...]:
    intensity = UNKNOWN if p.intensity is None else f"{p.intensity:.3g}"
    work = si(p.flop, "", 3).strip() if p.flop else UNKNOWN
    moved = si(p.bytes, "B", 3)
    return work, moved, intensity, seconds(p.time_s), _share(p.of_peak), _share(p.of_bandwidth), _share(p.share)


def _share(value: float | None) -> str:
    return UNKNOWN if value is None else f"{100.0 * value:.0f} %" if value >= 0.01 else f"{100.0 * value:.1f} %"


def _picture(plotted: Sequence[tuple[str, Point]], roofs: Mapping[str, float], bandwidth: float) -> list[Text]:
    """Letters of the operators below the roofs, both axes logarithmic."""
    x_low, x_high, y_low, y_high = _limits(plotted, roofs, bandwidth)
    cells = [[" "] * _WIDTH for _ in range(_HEIGHT)]

    def row_of(rate: float) -> int:
        return _HEIGHT - 1 - round((log10(rate) - y_low) / (y_high - y_low) * (_HEIGHT - 1))

    for column in range(_WIDTH):
        x = 10.0 ** (x_low + (x_high - x_low) * column / (_WIDTH - 1))
        for peak in roofs.values():
            height = min(peak, x * bandwidth)
            if 0 <= row_of(height) < _HEIGHT:
                cells[row_of(height)][column] = "_" if peak <= x * bandwidth else "/"
    for letter, point in reversed(plotted):
        column = round((log10(point.intensity or 1.0) - x_low) / (x_high - x_low) * (_WIDTH - 1))
        cells[min(max(row_of(point.flop_per_s), 0), _HEIGHT - 1)][min(max(column, 0), _WIDTH - 1)] = letter
    marks = {row_of(peak): f"{si(peak, '', 3)} {name}" for name, peak in roofs.items()}
    lines = [
        Text.assemble((f"  {marks.get(row, ''):>14s} |", "dim"), *(_cell(cell) for cell in line))
        for row, line in enumerate(cells)
    ]
    low, high = (f"{10.0**x:.2g}" for x in (x_low, x_high))
    middle = "FLOP per byte"
    gap = (_WIDTH - len(low) - len(high) - len(middle)) // 2
    foot = f"{low}{' ' * gap}{middle}{' ' * gap}{high}"
    return [Text("  FLOP/s", style="dim"), *lines, Text(" " * 18 + foot, style="dim")]


def _cell(cell: str) -> tuple[str, str]:
    return cell, "bold" if cell.isalpha() else "dim"


def _limits(
    plotted: Sequence[tuple[str, Point]], roofs: Mapping[str, float], bandwidth: float
) -> tuple[float, float, float, float]:
    """(least, most) decades of intensity and of FLOP/s."""
    intensities = [point.intensity or 1.0 for _, point in plotted]
    rates = [point.flop_per_s for _, point in plotted]
    ridge = max(roofs.values()) / bandwidth
    low, high = log10(min(intensities)) - 0.2, log10(max(*intensities, 2.0 * ridge)) + 0.1
    return low, high, min(log10(min(rates)), log10(10.0**low * bandwidth)), log10(max(*roofs.values(), *rates)) + 0.05


def draw(points: Sequence[Point], roofs: Mapping[str, float], bandwidth: float, path: str) -> None:
    """The picture as SVG or PNG by the suffix. Raises InputError (suffix, not writable), MissingExtra (matplotlib)."""
    target = Path(path)
    if target.suffix not in (".svg", ".png"):
        raise InputError(f"--roofline {path}: expected a name that ends with .svg or .png")
    try:
        import matplotlib as mpl
    except ImportError:
        raise MissingExtra("matplotlib", "plot") from None
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    with mpl.rc_context({"svg.hashsalt": "supertwin", "font.size": 8}):
        figure, axis = plt.subplots(figsize=(9.0, 4.6))
        _drawn(axis, points, roofs, bandwidth)
        figure.tight_layout()
        try:
            figure.savefig(target, dpi=120, metadata={"Date": None} if target.suffix == ".svg" else {"Software": None})
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror or error}") from None
        finally:
            plt.close(figure)


def _drawn(axis: Any, points: Sequence[Point], roofs: Mapping[str, float], bandwidth: float) -> None:
    plotted = [(name, point) for name, point in largest(points) if point.intensity]
    x_low, x_high, y_low, y_high = _limits(plotted, roofs, bandwidth)
    for name, peak in roofs.items():
        ridge = peak / bandwidth
        axis.plot([10**x_low, ridge, 10**x_high], [10**x_low * bandwidth, peak, peak], "-", color="0.4", linewidth=1)
        axis.text(10**x_high, peak, f"{name} ", ha="right", va="bottom")
    colours = {"compute": "tab:green", "memory": "tab:cyan", "latency": "tab:olive", "network": "tab:purple"}
    for name, point in plotted:
        size = 20.0 + 600.0 * point.share
        axis.scatter([point.intensity], [point.flop_per_s], s=size, color=colours[point.bound], alpha=0.6)
        place = (point.intensity, point.flop_per_s)
        axis.annotate(name, place, xytext=(4, 3), textcoords="offset points", fontsize=7)
    names = "\n".join(f"{name}  {point.operator}, {point.shape}" for name, point in plotted)
    axis.text(1.02, 1.0, names, transform=axis.transAxes, va="top", fontsize=6)
    axis.set(xscale="log", yscale="log", xlabel="FLOP per byte", ylabel="FLOP/s")
    axis.set(xlim=(10**x_low, 10**x_high), ylim=(10**y_low * 0.8, 10**y_high * 1.3))
    axis.set_title("area: share of the step; colour: bound")
