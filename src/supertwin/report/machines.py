"""One system as text and as JSON fields: `show`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.text import Text

from supertwin.machine.chip import Chip, Cited, stated
from supertwin.machine.inventory import component_maximum_w
from supertwin.machine.system import Part, Plane, System, Tier
from supertwin.report.tables import grid, heading, pairs, sources_table
from supertwin.report.text import UNKNOWN, gib, number, seconds, si, usd, whole

if TYPE_CHECKING:
    from rich.console import RenderableType

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
        "chips": whole(system.devices / chip.devices_per_package),
        "chip": _chip_fields(chip),
        "peak_flop_per_s": {rate: peak * system.devices for rate, peak in chip.peak_flop_per_s.items()},
        "memory_bytes": chip.memory_bytes * system.devices,
        "memory_bytes_per_s": chip.memory_bytes_per_s * system.devices,
        "power_w": system.power_w,
        "component_maximum_w": component_maximum_w(system),
        "price_usd": system.price_usd,
        "pue": system.pue,
        "host_memory_bytes_per_node": system.host_memory_bytes_per_node,
        "host_link_bytes_per_s": system.host_link_bytes_per_s,
        "counts": {name: whole(count) for name, count in system.counts.items()},
        "tiers": [_tier_fields(tier) for tier in system.tiers],
        "planes": [_plane_fields(plane) for plane in system.planes],
        "parts": [_part_fields(part) for part in system.parts],
        "sources": [source_fields(name, cited) for name, cited in _all_cited(system)],
    }


def _chip_fields(chip: Chip) -> dict[str, Any]:
    return {
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
    }


def _tier_fields(tier: Tier) -> dict[str, Any]:
    return {
        "name": tier.name,
        "path": tier.path,
        "devices": tier.devices,
        "bandwidth_bytes_per_s": tier.bandwidth_bytes_per_s,
        "latency_s": tier.latency_s,
        "topology": tier.topology,
        "oversubscription": tier.oversubscription,
    }


def _plane_fields(plane: Plane) -> dict[str, Any]:
    return {
        "name": plane.name,
        "description": plane.description,
        "bandwidth_bytes_per_s": plane.bandwidth_bytes_per_s,
        "latency_s": plane.latency_s or None,
    }


def _part_fields(part: Part) -> dict[str, Any]:
    return {
        "name": part.name,
        "title": part.title,
        "group": part.group,
        "count": whole(part.count),
        "idle_w": part.idle_w,
        "max_w": part.max_w,
        "price_usd": part.price_usd,
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


def system_view(system: System, explain: bool) -> list[RenderableType]:
    """Inventory, peaks, memory, planes, tiers, power and price; with explain every value with its source."""
    view: list[RenderableType] = [heading(f"{system.name}: {system.title}"), pairs(_headline(system))]
    if system.planes:
        planes = grid(("plane", "bandwidth", "latency", ""), map(_plane_cells, system.planes), wrap=3)
        view += [Text(), heading("Planes", "per device, one direction"), planes]
    view += [Text(), heading("Fabric", "per device, one direction"), _tiers(system)]
    if system.parts:
        parts = grid(("part", "count", "max each", "max all", "price each"), map(_part_cells, system.parts))
        view += [Text(), heading("Parts", "one full system"), parts]
    if explain:
        return [*view, Text(), heading("Where each value comes from"), _sources(system)]
    return [*view, Text("  --explain lists every value with its source", style="dim")]


def _headline(system: System) -> list[tuple[str, str]]:
    chip, n = system.chip, system.devices
    of_full = "" if n == system.full_devices else f" of {system.full_devices}"
    return [
        ("devices", f"{n:,}{of_full} x {chip.name} ({chip.title}), {system.devices_per_node} per node"),
        ("dense peak", _peaks(system, n)),
        ("per device", _peaks(system, 1)),
        ("memory", f"{gib(chip.memory_bytes * n)}, {si(chip.memory_bytes_per_s * n, 'B/s')}"),
        ("per device", f"{gib(chip.memory_bytes)}, {si(chip.memory_bytes_per_s, 'B/s')}"),
        ("host memory", f"{gib(system.host_memory_bytes_per_node or None)} per node"),
        ("power", _power(system)),
        ("price", f"{usd(system.price_usd)} full system"),
    ]


def _power(system: System) -> str:
    """The chosen reading beside the sum of the maxima, both without cooling."""
    maxima = f"its parts at most {si(component_maximum_w(system), 'W')}"
    return f"{si(system.power_w, 'W')} full system as stated, {maxima}, without cooling (PUE {system.pue:g})"


def _tiers(system: System) -> RenderableType:
    header = ("tier", "path", "devices", "bandwidth", "latency", "topology")
    return grid(header, map(_tier_cells, system.tiers), left=2)


def _plane_cells(plane: Plane) -> tuple[str, ...]:
    latency = seconds(plane.latency_s or None)
    return plane.name, si(plane.bandwidth_bytes_per_s, "B/s"), latency, plane.description


def _tier_cells(tier: Tier) -> tuple[str, ...]:
    bandwidth = si(tier.bandwidth_bytes_per_s, "B/s")
    return tier.name, tier.path, f"{tier.devices:,}", bandwidth, seconds(tier.latency_s), tier.topology


def _part_cells(part: Part) -> tuple[str, ...]:
    each, together = si(part.max_w or None, "W"), si(part.max_w * part.count or None, "W")
    return part.title, number(part.count), each, together, usd(part.price_usd)


def _peaks(system: System, devices: int) -> str:
    peaks = system.chip.peak_flop_per_s
    return ", ".join(f"{rate.upper()} {si(peaks[rate] * devices, 'FLOP/s')}" for rate in _RATES if rate in peaks)


def _all_cited(system: System) -> Iterable[tuple[str, Cited]]:
    yield from ((f"chip.{name}", cited) for name, cited in system.chip.cited.items())
    yield from system.cited.items()


def _sources(system: System) -> RenderableType:
    rows = []
    for name, cited in _all_cited(system):
        rows.append((name, stated(cited), _where(cited), cited.kind))
        for other in cited.alternatives:
            rows.append(("", stated(other), _where(other), "refuted" if other.kind == "refuted" else "not chosen"))
    return sources_table(rows)


def _where(cited: Cited) -> str:
    return cited.source + (f": {cited.note}" if cited.note else "") if cited.source else cited.note or UNKNOWN
