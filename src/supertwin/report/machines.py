"""Systems as text and as JSON fields: `show` and `compare`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from supertwin.core.errors import InputError
from supertwin.core.units import parse_quantity
from supertwin.machine.chip import Cited
from supertwin.machine.system import System
from supertwin.report.tables import grid, heading, pairs, sources_table
from supertwin.report.text import UNKNOWN, gib, number, seconds, si, usd

if TYPE_CHECKING:
    from rich.console import RenderableType

_BESIDE = 2  # systems beside the first one in 100 columns
_RATES = ("fp4", "fp8", "int8", "bf16", "fp16", "tf32", "fp32")


def system_fields(system: System) -> dict[str, Any]:
    """JSON fields of one system: totals over the devices in use, SI units; power and price of the full system."""
    chip = system.chip
    return {
        "name": system.name,
        "title": system.title,
        "devices": system.devices,
        "full_devices": system.full_devices,
        "devices_per_node": system.devices_per_node,
        "chips": system.devices / chip.devices_per_package,
        "chip": {
            "name": chip.name,
            "title": chip.title,
            "vendor": chip.vendor,
            "architecture": chip.architecture,
            "devices_per_package": chip.devices_per_package,
            "peak_flop_per_s": dict(chip.peak_flop_per_s),
            "memory_bytes": chip.memory_bytes,
            "usable_memory_bytes": chip.usable_memory_bytes,
            "memory_bytes_per_s": chip.memory_bytes_per_s,
            "tdp_w": chip.tdp_w,
            "matrix_cores": chip.matrix_cores,
            "clock_hz": chip.clock_hz,
        },
        "peak_flop_per_s": {rate: peak * system.devices for rate, peak in chip.peak_flop_per_s.items()},
        "memory_bytes": chip.memory_bytes * system.devices,
        "memory_bytes_per_s": chip.memory_bytes_per_s * system.devices,
        "power_w": system.power_w,
        "price_usd": system.price_usd,
        "pue": system.pue,
        "host_memory_bytes_per_node": system.host_memory_bytes_per_node,
        "host_link_bytes_per_s": system.host_link_bytes_per_s,
        "counts": dict(system.counts),
        "tiers": [
            {
                "name": tier.name,
                "path": tier.path,
                "devices": tier.devices,
                "bandwidth_bytes_per_s": tier.bandwidth_bytes_per_s,
                "latency_s": tier.latency_s,
                "topology": tier.topology,
                "oversubscription": tier.oversubscription,
            }
            for tier in system.tiers
        ],
        "planes": [
            {
                "name": plane.name,
                "description": plane.description,
                "bandwidth_bytes_per_s": plane.bandwidth_bytes_per_s,
                "latency_s": plane.latency_s or None,
            }
            for plane in system.planes
        ],
        "parts": [
            {
                "name": part.name,
                "title": part.title,
                "group": part.group,
                "count": part.count,
                "idle_w": part.idle_w,
                "max_w": part.max_w,
                "price_usd": part.price_usd,
            }
            for part in system.parts
        ],
        "sources": [source_fields(name, cited) for name, cited in _all_cited(system)],
    }


def source_fields(name: str, cited: Cited) -> dict[str, Any]:
    """JSON fields of one cited value with the readings that were not chosen."""
    fields: dict[str, Any] = {
        "name": name,
        "value": cited.value,
        "stated": stated(cited),
        "source": cited.source,
        "kind": cited.kind,
    }
    if cited.note:
        fields["note"] = cited.note
    if cited.alternatives:
        fields["alternatives"] = [
            {"value": other.value, "stated": stated(other), "source": other.source, "note": other.note}
            for other in cited.alternatives
        ]
    return fields


def stated(cited: Cited) -> str:
    """A value in the unit in which its source states it."""
    return f"{number(cited.value / _factor(cited.unit), 6)} {cited.unit}".strip()


def _factor(unit: str) -> float:
    try:
        return parse_quantity(f"1 {unit}").value
    except InputError:
        return 1.0


def system_view(system: System, explain: bool) -> list[RenderableType]:
    """Inventory, peaks, memory, planes, tiers, power and price; with explain every value with its source."""
    chip, n = system.chip, system.devices
    of_full = "" if n == system.full_devices else f" of {system.full_devices}"
    view: list[RenderableType] = [
        heading(f"{system.name}: {system.title}"),
        pairs(
            [
                ("devices", f"{n:,}{of_full} x {chip.name} ({chip.title}), {system.devices_per_node} per node"),
                ("dense peak", _peaks(system, n)),
                ("per device", _peaks(system, 1)),
                ("memory", f"{gib(chip.memory_bytes * n)}, {si(chip.memory_bytes_per_s * n, 'B/s')}"),
                ("per device", f"{gib(chip.memory_bytes)}, {si(chip.memory_bytes_per_s, 'B/s')}"),
                ("host memory", f"{gib(system.host_memory_bytes_per_node or None)} per node"),
                ("power", f"{si(system.power_w, 'W')} full system, PUE {system.pue:g}"),
                ("price", f"{usd(system.price_usd)} full system"),
            ]
        ),
    ]
    if system.planes:
        planes = [
            (plane.name, si(plane.bandwidth_bytes_per_s, "B/s"), seconds(plane.latency_s or None), plane.description)
            for plane in system.planes
        ]
        view += [
            Text(),
            heading("Planes", "per device, one direction"),
            grid(("plane", "bandwidth", "latency", ""), planes, wrap=3),
        ]
    tiers = [
        (
            tier.name,
            tier.path,
            f"{tier.devices:,}",
            si(tier.bandwidth_bytes_per_s, "B/s"),
            seconds(tier.latency_s),
            tier.topology,
        )
        for tier in system.tiers
    ]
    header = ("tier", "path", "devices", "bandwidth", "latency", "topology")
    view += [Text(), heading("Fabric", "per device, one direction"), grid(header, tiers, left=2)]
    if system.parts:
        parts = [
            (
                part.title,
                number(part.count),
                si(part.max_w or None, "W"),
                si(part.max_w * part.count or None, "W"),
                usd(part.price_usd),
            )
            for part in system.parts
        ]
        view += [
            Text(),
            heading("Parts", "one full system"),
            grid(("part", "count", "max each", "max all", "price each"), parts),
        ]
    if explain:
        view += [Text(), heading("Where each value comes from"), _sources(system)]
    else:
        view.append(Text("  --explain lists every value with its source", style="dim"))
    return view


def comparison_fields(systems: Sequence[System]) -> list[dict[str, Any]]:
    """JSON rows of `compare`: one quantity each, with values by system and ratios to the first."""
    rows = []
    for name, unit, values in _compared(systems):
        first = values[0]
        ratios = [value / first if value is not None and first else None for value in values]
        rows.append({"quantity": name, "unit": "B" if unit == "GiB" else unit, "values": values, "ratios": ratios})
    return rows


def comparison_view(systems: Sequence[System]) -> list[RenderableType]:
    """Side by side, each later column with its ratio to the first system; a few systems to a table."""
    first, others = systems[0], systems[1:]
    view: list[RenderableType] = [heading("Side by side", "in brackets: ratio to the first")]
    for start in range(0, len(others), _BESIDE):
        view += [_comparison((first, *others[start : start + _BESIDE])), Text()]
    return view[:-1]


def _comparison(systems: Sequence[System]) -> RenderableType:
    rows = []
    for name, unit, values in _compared(systems):
        cells = [_cell(values[0], unit)]
        for value in values[1:]:
            ratio = f" ({number(value / values[0], 3)}x)" if value is not None and values[0] else ""
            cells.append(_cell(value, unit) + ratio)
        rows.append((name.replace("_", " "), *cells))
    header = ("", *(f"{system.name}:{system.devices}" for system in systems))
    return grid(header, rows)


def _cell(value: float | None, unit: str) -> str:
    if unit == "USD":
        return usd(value)
    if unit == "GiB":
        return gib(value)
    return number(value) if not unit else si(value, unit)


def _compared(systems: Sequence[System]) -> list[tuple[str, str, list[float | None]]]:
    """Quantities: totals over the devices in use, then per-device values; None where unknown."""
    rows: list[tuple[str, str, list[float | None]]] = [("devices", "", [float(s.devices) for s in systems])]
    rows.append(("chips", "", [s.devices / s.chip.devices_per_package for s in systems]))
    for rate in _RATES:
        peaks = [s.chip.peak_flop_per_s.get(rate) for s in systems]
        if any(peaks):
            total = [None if p is None else p * s.devices for p, s in zip(peaks, systems, strict=True)]
            rows.append((f"peak_{rate}", "FLOP/s", total))
    rows += [
        ("memory", "GiB", [s.chip.memory_bytes * s.devices for s in systems]),
        ("memory_bandwidth", "B/s", [s.chip.memory_bytes_per_s * s.devices for s in systems]),
        ("power", "W", [_part_of(s, s.power_w) for s in systems]),
        ("price", "USD", [_part_of(s, s.price_usd) for s in systems]),
        ("scale_up_devices", "", [float(_scale_up(s)[0]) for s in systems]),
        ("scale_up_bandwidth_per_device", "B/s", [_scale_up(s)[1] for s in systems]),
        ("bf16_peak_per_device", "FLOP/s", [s.chip.peak("bf16") for s in systems]),
        ("memory_per_device", "GiB", [s.chip.memory_bytes for s in systems]),
        ("memory_bandwidth_per_device", "B/s", [s.chip.memory_bytes_per_s for s in systems]),
        ("tdp_per_device", "W", [s.chip.tdp_w for s in systems]),
        ("bf16_flop_per_joule", "FLOP/J", [_per_power(s) for s in systems]),
    ]
    return rows


def _part_of(system: System, whole: float | None) -> float | None:
    return None if whole is None else whole * system.devices / system.full_devices


def _per_power(system: System) -> float | None:
    return system.chip.peak("bf16") * system.full_devices / system.power_w if system.power_w else None


def _scale_up(system: System) -> tuple[int, float | None]:
    """Devices and bandwidth of the widest tier that stays inside one system."""
    inside = [tier for tier in system.tiers if not tier.scale_out] or list(system.tiers)
    return (inside[-1].devices, inside[-1].bandwidth_bytes_per_s) if inside else (1, None)


def _peaks(system: System, devices: int) -> str:
    peaks = system.chip.peak_flop_per_s
    return ", ".join(f"{rate.upper()} {si(peaks[rate] * devices, 'FLOP/s')}" for rate in _RATES if rate in peaks)


def _all_cited(system: System) -> list[tuple[str, Cited]]:
    chip = [(f"chip.{name}", cited) for name, cited in system.chip.cited.items()]
    return chip + list(system.cited.items())


def _sources(system: System) -> RenderableType:
    rows = []
    for name, cited in _all_cited(system):
        rows.append((name, stated(cited), _where(cited), cited.kind))
        for other in cited.alternatives:
            rows.append(("", stated(other), _where(other), "not chosen"))
    return sources_table(rows)


def _where(cited: Cited) -> str:
    return cited.source + (f": {cited.note}" if cited.note else "") if cited.source else cited.note or UNKNOWN
