"""A pair, a collective, a fault study and a matrix of a fabric as terminal text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.text import Text

from supertwin.report.fabric import closing, fitted, size_text
from supertwin.report.fabric_matrix import Floats, Matrix, downsampled
from supertwin.report.tables import grid, heading, pairs
from supertwin.report.text import UNKNOWN, number, percent, seconds, si

if TYPE_CHECKING:
    from rich.console import RenderableType

_SHADES = " ·░▒▓█"
_COLOURS = ("bright_black", "blue", "cyan", "green", "yellow", "white")
_CUT = "X"
_MOST_CELLS = 32
_MOST_KINDS = 8


def pair_view(fields: Mapping[str, Any], explain: bool) -> list[RenderableType]:
    """One connection: rate, latency, and the hops of its first path."""
    pair = fields["pair"]
    view: list[RenderableType] = [heading(f"{pair['source']} to {pair['target']}")]
    if not pair["reachable"]:
        return [*view, Text("  unreachable: " + pair["reason"]), *closing(fields, explain)]
    rows = [
        ("plane", pair["plane"]),
        ("paths", f"{pair['paths']:,} used together"),
        ("line rate", si(pair["bytes_per_s"], "B/s")),
        ("one stream", f"{si(pair['stream_bytes_per_s'], 'B/s')}, as measured streams of its kind reach"),
        (
            "latency",
            f"{seconds(pair['latency_s'])} of the route, {seconds(pair['stream_latency_s'])} with its protocol",
        ),
    ]
    hops = [
        (hop["to"], hop["plane"], si(hop["bytes_per_s"], "B/s"), seconds(hop["latency_s"]), "optical" * hop["optical"])
        for hop in pair["hops"]
    ]
    view += [pairs(rows), Text(), heading("Hops", "of the first path")]
    return [*view, grid(("to", "plane", "link", "latency", ""), hops, left=2), *closing(fields, explain)]


def collective_view(fields: Mapping[str, Any], explain: bool, width: int = 100) -> list[RenderableType]:
    """Time by message size, closed form beside flow level, and where the time of the largest goes."""
    group, rows = fields["group"], fields["rows"]
    op = fields["collective"].replace("_", "-")
    note = f"{group['devices']:,} devices" + (f", {group['stride']} apart" if group["stride"] > 1 else "")
    note += f" ({number(group['packages'])} packages)" if group["packages"] != group["devices"] else ""
    view: list[RenderableType] = [heading(f"{op} on {fields['system']}", note), Text()]
    both = any(row["closed"] for row in rows) and any(row["flow"] for row in rows)
    cells = []
    for row in rows:
        closed, flow = row["closed"], row["flow"]
        shown = closed or flow or {}
        line = [size_text(row["bytes"])]
        for there, found in ((any(r["closed"] for r in rows), closed), (any(r["flow"] for r in rows), flow)):
            if there:
                line.append("cut off" if found and found["time_s"] is None else seconds(found and found["time_s"]))
        if both:
            line.append(_apart(closed, flow))
        line += [si(shown.get("bytes_per_s"), "B/s", 3), si(shown.get("bus_bytes_per_s"), "B/s", 3)]
        cells.append([*line, str(shown.get("algorithm", UNKNOWN))])
    header = ["bytes", *(("closed", "flow", "apart") if both else ("time",)), "algbw", "busbw", "algorithm"]
    view.append(fitted(header, cells, width, range(len(header) - 2)))
    last = rows[-1]["flow"]
    if last and last["bottlenecks"]:
        total = last["time_s"]
        lines = [
            (b["link"], seconds(b["busy_s"]), percent(b["busy_s"] / total if total else None, 0))
            for b in last["bottlenecks"]
        ]
        title = f"Busiest links at {size_text(rows[-1]['bytes'])}"
        view += [Text(), heading(title, "one of each kind; time at line rate, share of the whole")]
        view.append(grid(("link", "busy", "share"), lines))
    if fields["reasons"]:
        view += [Text(), *(Text("  unreachable: " + reason) for reason in fields["reasons"])]
    return [*view, *closing(fields, explain)]


def _apart(closed: Mapping[str, Any] | None, flow: Mapping[str, Any] | None) -> str:
    if not closed or not flow or not closed["time_s"] or flow["time_s"] is None:
        return UNKNOWN
    return f"{100.0 * (flow['time_s'] / closed['time_s'] - 1.0):+.1f} %"


def fault_view(fields: Mapping[str, Any], explain: bool, width: int = 100) -> list[RenderableType]:
    """Before and after."""
    view: list[RenderableType] = [heading(f"{fields['system']} without " + ", ".join(fields["faults"]))]
    mean = fields["mean_bytes_per_s"]
    rows = [
        (
            "lost",
            f"{len(fields['devices_lost']):,} devices, {fields['parts_lost']:,} parts, {fields['links_lost']:,} links",
        ),
        ("cut off", f"{fields['cut_off_pairs']:,} pairs of devices"),
        ("pair on average", f"{si(mean['before'], 'B/s')} before, {si(mean['after'], 'B/s')} after"),
    ]
    if fields["links_degraded"]:
        rows.insert(1, ("degraded", f"{fields['links_degraded']:,} links"))
    for cut in fields["bisection"]:
        change = f"{si(cut['before_bytes_per_s'], 'B/s')} before, {si(cut['after_bytes_per_s'], 'B/s')} after"
        rows.append((f"bisection {cut['plane']}", change))
    view += [pairs(rows), Text(), heading("Pairs", "that fare alike, one of each; the most changed first")]
    header = ("pair", "pairs", "before", "after", "latency")
    view += [fitted(header, _pair_cells(fields), width, (0, 1, 3)), Text()]
    if fields["collectives"]:
        left = fields["collectives"][0]["devices"]
        note = "64 MiB or 128 tokens per device" + (
            f", after over {left:,} devices" if left < fields["devices"] else ""
        )
        view += [heading("Collectives", note)]
        cells = [(r["name"].replace("_", "-"), *_times(r), r["note"] or r["reason"]) for r in fields["collectives"]]
        header = ("", "before", "after", "ratio", "busiest link")
        view += [fitted(header, cells, width, (0, 1, 2, 3)), Text()]
    if fields["steps"]:
        steps = [(r["scenario"], *_times(r)) for r in fields["steps"]]
        view += [heading("Steps"), grid(("", "before", "after", "ratio"), steps)]
        notes = dict.fromkeys(r["reason"] for r in fields["steps"] if r["reason"])
        view += [Text(f"  {note}", style="yellow") for note in notes]
    return [*view, *closing(fields, explain)]


def _pair_cells(fields: Mapping[str, Any]) -> list[list[str]]:
    cells = []
    for row in fields["pairs"][:_MOST_KINDS]:
        before, after = row["before"], row["after"]
        rate = si(after["bytes_per_s"], "B/s") if after["paths"] else "cut off"
        wait = seconds(after["latency_s"])
        if before["latency_s"] != after["latency_s"] and before["latency_s"] is not None and after["paths"]:
            wait = f"{seconds(before['latency_s'])} to {wait}"
        name = f"{row['source']} to {row['target']}"
        cells.append([name, f"{row['pairs']:,}", si(before["bytes_per_s"], "B/s"), rate, wait])
    return cells


def _times(row: Mapping[str, Any]) -> tuple[str, str, str]:
    after = seconds(row["after_s"]) if row["after_s"] is not None else "never" if row["before_s"] else UNKNOWN
    return seconds(row["before_s"]), after, UNKNOWN if row["ratio"] is None else f"{row['ratio']:.3f}x"


def matrix_view(matrix: Matrix, fields: Mapping[str, Any], explain: bool, width: int = 100) -> list[RenderableType]:
    """Bandwidth from package to package as shaded cells, each the worst of its block, with a legend."""
    count = len(matrix.places)
    most = max(1, min(_MOST_CELLS, (width - 8) // 2, count))
    cells = next((n for n in range(most, most // 2, -1) if count % n == 0), most)
    rate = downsampled(matrix.bytes_per_s, cells, {"high": False})
    block = len(matrix.places) / cells
    note = f"{block:.3g} packages to a cell; slowest pair of the cell"
    view: list[RenderableType] = [heading(f"{fields['system']}: bandwidth from row to column", note), Text()]
    levels, shade = _levels(rate)
    for row, line in enumerate(rate):
        text = Text("  ")
        label = int(matrix.places[round(row * block)]) if row % 4 == 0 else None
        text.append(f"{label:>5} " if label is not None else "      ", "dim")
        for value in line:
            mark, style = shade(float(value))
            text.append(mark * 2, style)
        view.append(text)
    legend = Text("        ")
    for value in levels:
        mark, style = shade(value)
        legend.append(mark * 2, style)
        legend.append(f" {value / 1e9:.4g} GB/s   " if value > 0 else " cut off   ")
    view += [Text(), legend, Text(), pairs(_matrix_rows(matrix))]
    return [*view, *closing(fields, explain)]


def _levels(rate: Floats) -> tuple[list[float], Any]:
    """Values of the legend, and the mark and colour of a value: one shade per value while there are few."""
    finite = np.unique(np.round(rate[np.isfinite(rate)] / 1e8) * 1e8)
    shades = len(_SHADES) - 1
    few = finite[finite > 0]
    if few.size > shades:
        few = np.linspace(few.min(), few.max(), shades)
    zero = [0.0] if (finite == 0).any() else []

    def shade(value: float) -> tuple[str, str]:
        if not np.isfinite(value):
            return " ", ""
        if value <= 0:
            return _CUT, "red"
        at = int(np.argmin(np.abs(few - value)))
        step = shades if few.size == 1 else 1 + round(at * (shades - 1) / (few.size - 1))
        return _SHADES[step], _COLOURS[step]

    return [*zero, *few.tolist()], shade


def _matrix_rows(matrix: Matrix) -> list[tuple[str, str]]:
    off = ~np.eye(len(matrix.places), dtype=bool)
    rate, wait = matrix.bytes_per_s[off], matrix.latency_s[off]
    reached = np.isfinite(wait) & (rate > 0)
    rows = [("unreachable", f"{int((~reached).sum()):,} of {rate.size:,} pairs of packages")]
    if reached.any():
        slow, fast = rate[reached].min(), rate[reached].max()
        rows = [
            ("bandwidth", f"{si(float(slow), 'B/s')} to {si(float(fast), 'B/s')}"),
            ("latency", f"{seconds(float(wait[reached].min()))} to {seconds(float(wait[reached].max()))}"),
            *rows,
        ]
    return rows
