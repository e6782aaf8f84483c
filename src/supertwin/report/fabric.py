"""The fabric as terminal text: what it is made of, what a pair gets, what groups get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from supertwin.report.tables import grid, heading, pairs, remarks, sources_table
from supertwin.report.text import UNKNOWN, number, percent, seconds, si

if TYPE_CHECKING:
    from rich.console import RenderableType

Row = Mapping[str, Any]

_SCOPES = {"package": "die to die", "intra": "in a node", "inter": "across nodes"}
_ENDS = {"device": "", "host": " CPU memory"}


WIDE = 84  # columns; narrower terminals get fewer columns in the tables


def fitted(header: Sequence[str], rows: Sequence[Sequence[str]], width: int, keep: Sequence[int]) -> RenderableType:
    """A table, with only the columns `keep` where the terminal is narrow."""
    if width >= WIDE:
        return grid(header, rows)
    return grid([header[i] for i in keep], [[row[i] for i in keep] for row in rows])


def overview_view(fields: Mapping[str, Any], explain: bool, width: int = 100) -> list[RenderableType]:
    """Parts, links, checks, bisection, pairs, engines and groups; with explain also the sources."""
    view: list[RenderableType] = [heading(str(fields["title"])), *parts_view(fields, width), Text()]
    if fields["pairs"]:
        view += [heading("Point to point", "512 B; one stream of 256 MiB per device")]
        view += [pair_table(fields["pairs"], width), Text()]
    if fields["engines"]:
        view += [heading("Bandwidth by message size", "GB/s of one stream, device to device, read")]
        view += [engine_table(fields["engines"], width), Text()]
    if fields["groups"]:
        view += [heading("Groups", "256 MiB per device; 128 tokens per device, hidden 7168, top-8")]
        view.append(group_table(fields["groups"], fields["devices_per_package"], width))
    return [*view, *closing(fields, explain)]


def closing(fields: Mapping[str, Any], explain: bool) -> list[RenderableType]:
    """Notes, and the sources when asked."""
    view: list[RenderableType] = [*remarks(fields.get("notes", ()))]
    if explain and fields.get("sources"):
        rows = [(s["name"], s["value"], s["source"], s["layer"]) for s in fields["sources"]]
        view += [Text(), heading("Where the numbers come from"), sources_table(rows)]
    return view


def parts_view(fields: Mapping[str, Any], width: int = 100) -> list[RenderableType]:
    """Parts by kind, bundles of links, consistency checks and bisection of the fabric as built."""
    parts = ", ".join(f"{row['count']:,} {row['kind']}" for row in fields["parts"])
    view: list[RenderableType] = [pairs([("parts", parts)]), Text()]
    rows = [
        (
            f"{row['plane']}: {row['from']} - {row['to']}",
            f"{row['links']:,}",
            si(row["bytes_per_s_each"], "B/s"),
            si(row["bytes_per_s"], "B/s"),
            seconds(row["latency_s"]),
            "optical" if row["optical"] else "",
        )
        for row in fields["links"]
    ]
    view += [heading("Links", "one direction; latency of the hop")]
    view.append(fitted(("between", "links", "each", "all", "hop", ""), rows, width, (0, 1, 2, 4)))
    cuts = [
        (row["plane"], si(row["bytes_per_s"], "B/s"), si(row["bytes_per_s_per_device"], "B/s"))
        for row in fields["bisection"]
    ]
    if cuts:
        view += [Text(), heading("Bisection", "half of the devices to the other half")]
        view.append(grid(("plane", "all", "per device"), cuts))
    checks = [("ok" if row["ok"] else "BROKEN", row["name"], row["detail"]) for row in fields["checks"]]
    if checks:
        view += [Text(), heading("Checks"), grid(("", "check", ""), checks, left=2, wrap=2)]
    return view


def pair_table(rows: Sequence[Row], width: int = 100) -> RenderableType:
    """Latency and bandwidth by pair, with the published ones where there are."""
    printed = any(row["published_bytes_per_s"] for row in rows)
    cells = []
    for row in rows:
        line = [
            f"{_SCOPES[row['scope']]}, {row['operation']}{_ENDS[row['remote']]}",
            seconds(row["latency_s"]),
            si(row["bytes_per_s"], "B/s"),
        ]
        if printed:
            line += [seconds(row["published_latency_s"]), si(row["published_bytes_per_s"], "B/s")]
            line.append(_off(row["bytes_per_s"], row["published_bytes_per_s"]))
        cells.append(line)
    header = ("", "512 B", "bandwidth", *(("published", "published", "off") if printed else ()))
    return fitted(header, cells, width, (0, 1, 2, *([5] if printed else [])))


def _off(value: float, printed: float | None) -> str:
    return UNKNOWN if not printed else f"{100.0 * (value / printed - 1.0):+.1f} %"


def engine_table(rows: Sequence[Row], width: int = 100) -> RenderableType:
    """One line per engine and scope."""
    sizes = rows[0]["bytes"]
    cells = [
        (f"{row['engine']} {_SCOPES[row['scope']]}", *(number(rate / 1e9, 3) for rate in row["bytes_per_s"]))
        for row in rows
    ]
    return fitted(("", *(size_text(size) for size in sizes)), cells, width, (0, 2, 4, 6))


def group_table(rows: Sequence[Row], devices_per_package: int, width: int = 100) -> RenderableType:
    """One line per group size: bandwidth of the collectives, time of the exchange beside the published one."""
    printed = any(row["dispatch"]["published_time_s"] for row in rows)
    cells = []
    for row in rows:
        size = f"{row['devices']:,}"
        line = [size] if devices_per_package == 1 else [size, number(row["packages"])]
        line += [si(row[op]["bytes_per_s"], "B/s", 3) for op in ("all_reduce", "all_to_all")]
        for op in ("dispatch", "combine"):
            line.append(f"{1e6 * row[op]['time_s']:.0f} us")
            if printed:
                found = row[op]["published_time_s"]
                line.append(f"{1e6 * found:.0f}" if found else UNKNOWN)
        cells.append(line)
    exchange = ("dispatch", "publ.", "combine", "publ.") if printed else ("dispatch", "combine")
    sizes = ("devices",) if devices_per_package == 1 else ("dies", "chips")
    header = (*sizes, "all-reduce", "all-to-all", *exchange)
    first, step = len(sizes), 2 if printed else 1
    return fitted(header, cells, width, (0, first, first + 1, first + 2, first + 2 + step))


def size_text(size: float) -> str:
    """A message size in binary units where it is a whole number of them."""
    for scale, unit in ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB")):
        if 1.0 <= size / scale < 1024.0 and (size / scale).is_integer():
            return f"{size / scale:.0f} {unit}"
    return si(size, "B")


def share(value: float | None) -> str:
    """A fraction in per cent without decimals."""
    return percent(value, 0)
