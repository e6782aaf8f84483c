"""What a machine adds up to: the figures behind `show` and `compare`, each with its sources and its other readings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from supertwin.machine.chip import Cited, readings
from supertwin.machine.schema import RATES
from supertwin.machine.system import System, Tier


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a machine, for the devices in use.

    value in SI units of `dimension` (see core.units); kind spec | inferred | assumption; sources are ids.
    alternatives: the same figure from the readings that were not chosen, as (value, source id, note); readings that the
    catalogue calls refuted are left out (they stay in Chip.cited).
    """

    name: str
    label: str
    value: float
    dimension: str
    kind: str
    sources: tuple[str, ...]
    note: str = ""
    alternatives: tuple[tuple[float, str, str], ...] = ()

    @property
    def readings(self) -> tuple[float, ...]:
        """The chosen value first, then the alternatives."""
        return (self.value, *(value for value, _, _ in self.alternatives))


@dataclass(frozen=True, slots=True)
class Ratio:
    """One system over another: of the chosen values, and the range over all open readings of both.

    Systems that share their readings (the same chip in both) have the ratio of the chosen values alone.
    """

    name: str
    over: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Figures of several systems side by side; a system lacks a figure that its catalogue entry does not have."""

    systems: tuple[str, ...]
    figures: tuple[tuple[str, tuple[Figure | None, ...]], ...]
    ratios: tuple[Ratio, ...]

    def ratio(self, name: str, over: str) -> Ratio:
        """One ratio by figure name and system; KeyError when there is none."""
        for ratio in self.ratios:
            if ratio.name == name and ratio.over == over:
                return ratio
        raise KeyError((name, over))

    def to_first(self, name: str) -> tuple[Ratio | None, ...]:
        """Each system over the first one, in the order of the systems; None where either lacks the figure."""
        first, *others = dict(self.figures)[name]
        if first is None or min(first.readings) <= 0:
            return (None,) * len(self.systems)
        return tuple(None if f is None else _ratio(name, f, first, self.systems[0]) for f in (first, *others))


def inventory(system: System) -> tuple[Figure, ...]:
    """Every figure of the devices in use: peaks, memory, fabric, optics, power, price and their quotients."""
    figures = [
        *_size(system),
        *_compute(system),
        *_memory(system),
        *_fabric(system),
        *_optics(system),
        *_power_and_price(system),
        *_of_one_device(system),
    ]
    by_name = {figure.name: figure for figure in figures}
    return (*figures, *_quotients(by_name))


def per_device(system: System) -> tuple[Figure, ...]:
    """The chip's own figures, per device as it is addressed (a die on Ascend)."""
    labels = {"l2.capacity": "L2", "memory.printed": "memory as printed", "power.tdp": "power limit"}
    dimensions = {"peak": "flop_per_s", "vector": "flop_per_s", "cores": "count", "package": "count", "power": "w"}
    figures = []
    for name, cited in system.chip.cited.items():
        group, _, leaf = name.partition(".")
        dimension = dimensions.get(group, "bytes_per_s" if leaf == "bandwidth" else "bytes")
        dimension = {"clock": "hz", "rental": "usd_per_s"}.get(leaf, dimension)
        figures.append(_figure(name, labels.get(name, f"{group} {leaf}"), cited, dimension, 1.0))
    return tuple(figures)


def compare(systems: Sequence[System]) -> Comparison:
    """The figures of several systems, and the ratios of the first one to each of the others."""
    tables = [{figure.name: figure for figure in inventory(system)} for system in systems]
    names = _merged([list(table) for table in tables])
    rows = tuple((name, tuple(table.get(name) for table in tables)) for name in names)
    ratios = tuple(
        _ratio(name, first, other, system.name)
        for name, (first, *others) in rows
        for system, other in zip(systems[1:], others, strict=True)
        if first is not None and other is not None and min(other.readings) > 0
    )
    return Comparison(tuple(system.name for system in systems), rows, ratios)


def _merged(lists: Sequence[list[str]]) -> list[str]:
    """All names; those that only later lists have stand after their neighbours."""
    merged = list(lists[0]) if lists else []
    for names in lists[1:]:
        place = 0
        for name in names:
            if name not in merged:
                merged.insert(place, name)
            place = merged.index(name) + 1
    return merged


def scale_up_tier(system: System) -> Tier | None:
    """The widest tier inside one system: the scale-up domain. None when every tier is scale-out."""
    inside = [tier for tier in system.tiers if not tier.scale_out]
    return inside[-1] if inside else None


def component_maximum_w(system: System) -> float:
    """Sum of the maxima of chips and parts of one full system, cooling excluded."""
    parts = sum(part.count * part.max_w for part in system.parts if not part.scale_out_only)
    return system.full_devices * system.chip.tdp_w + parts


def _size(system: System) -> Iterable[Figure]:
    cited = system.cited["size.devices"]
    yield Figure("devices", "devices in use", float(system.devices), "count", cited.kind, (cited.source,))
    package = system.chip.cited["package.devices"]
    chips = system.devices / system.chip.devices_per_package
    yield Figure("chips", "packages in use", chips, "count", "inferred", (cited.source, package.source))


def _compute(system: System) -> Iterable[Figure]:
    for rate in RATES:
        cited = system.chip.cited.get(f"peak.{rate}")
        if cited is not None:
            yield _figure(f"peak_{rate}", f"dense peak {rate.upper()}", cited, "flop_per_s", system.devices)


def _memory(system: System) -> Iterable[Figure]:
    cited, count = system.chip.cited, system.devices
    yield _figure("memory_printed", "memory as printed", cited["memory.printed"], "bytes", count)
    yield _figure("memory", "memory in true bytes", cited["memory.capacity"], "bytes", count)
    yield _figure("memory_usable", "memory that programs can use", cited["memory.usable"], "bytes", count)
    yield _figure("memory_bandwidth", "memory bandwidth", cited["memory.bandwidth"], "bytes_per_s", count)


def _fabric(system: System) -> Iterable[Figure]:
    tier = scale_up_tier(system)
    if tier is not None:
        cited = system.cited[f"tiers.{tier.name}.bandwidth"]
        label = f"scale-up bandwidth ({tier.name}), both directions"
        yield _figure("scale_up_bidir", label, cited, "bytes_per_s", 2.0 * system.devices)
        yield _figure("scale_up_devices", "scale-up domain", system.cited[f"tiers.{tier.name}.devices"], "count", 1.0)
        each = f"scale-up bandwidth of one device ({tier.name}), one direction"
        yield _figure("scale_up_bandwidth_per_device", each, cited, "bytes_per_s", 1.0)
    for outer in system.tiers:
        if outer.scale_out:
            cited = system.cited[f"tiers.{outer.name}.bandwidth"]
            label = f"scale-out bandwidth ({outer.name}), one direction"
            yield _figure("scale_out", label, cited, "bytes_per_s", float(system.devices))


def _optics(system: System) -> Iterable[Figure]:
    share = system.devices / system.full_devices
    groups: list[tuple[str, str, Callable[[str], bool]]] = [
        ("transceivers_scale_up", "scale-up transceivers", lambda name: name.startswith("transceiver_scale_up")),
        ("transceivers_scale_out", "scale-out transceivers", lambda name: name == "transceiver_scale_out"),
    ]
    total, sources = 0.0, set[str]()
    for name, label, belongs in groups:
        parts = [part for part in system.parts if belongs(part.name) and not part.scale_out_only]
        count = share * sum(part.count for part in parts)
        found = {system.cited[f"parts.{part.name}.count"].source for part in parts}
        total, sources = total + count, sources | found
        if parts:
            yield Figure(name, label, count, "count", "inferred", tuple(sorted(found)), "count rules of the parts")
    if total:
        yield Figure("transceivers", "transceivers", total, "count", "inferred", tuple(sorted(sources)))


def _power_and_price(system: System) -> Iterable[Figure]:
    share = system.devices / system.full_devices
    maximum = component_maximum_w(system)
    note = "sum of the maxima of all components, cooling excluded"
    yield Figure("power_components", "component maxima", share * maximum, "w", "inferred", ("supertwin",), note)
    if "power.system" in system.cited:
        yield _figure("power", "power", system.cited["power.system"], "w", share)
    else:
        yield Figure("power", "power", share * maximum, "w", "inferred", ("supertwin",), note)
    if "price.system" in system.cited:
        yield _figure("price", "purchase price", system.cited["price.system"], "usd", share)


def _of_one_device(system: System) -> Iterable[Figure]:
    rows = (
        ("bf16_peak_per_device", "dense peak BF16 of one device", "peak.bf16", "flop_per_s"),
        ("memory_per_device", "memory of one device in true bytes", "memory.capacity", "bytes"),
        ("memory_bandwidth_per_device", "memory bandwidth of one device", "memory.bandwidth", "bytes_per_s"),
        ("tdp_per_device", "power limit of one device", "power.tdp", "w"),
    )
    for name, label, attribute, dimension in rows:
        if attribute in system.chip.cited:
            yield _figure(name, label, system.chip.cited[attribute], dimension, 1.0)


def _quotients(figures: dict[str, Figure]) -> Iterable[Figure]:
    """Power and price over what they buy; the other readings of either side carry over."""
    rows = (
        ("w_per_flop", "power per BF16 peak (W per FLOP/s)", "power", "peak_bf16"),
        ("w_per_memory_byte", "power per memory (W per byte)", "power", "memory_printed"),
        ("w_per_memory_bandwidth", "power per memory bandwidth (W per byte/s)", "power", "memory_bandwidth"),
        ("w_per_scale_up", "power per scale-up bandwidth (W per byte/s)", "power", "scale_up_bidir"),
        ("usd_per_flop", "price per BF16 peak (USD per FLOP/s)", "price", "peak_bf16"),
        ("usd_per_memory_byte", "price per memory (USD per byte)", "price", "memory_printed"),
    )
    for name, label, top, bottom in rows:
        if top in figures and bottom in figures:
            yield _quotient(name, label, figures[top], figures[bottom])
    if "peak_bf16" in figures:
        per_power = _quotient("bf16_flop_per_joule", "BF16 peak per power", figures["peak_bf16"], figures["power"])
        yield replace(per_power, dimension="flop_per_j")


def _quotient(name: str, label: str, top: Figure, bottom: Figure) -> Figure:
    kind = "assumption" if "assumption" in (top.kind, bottom.kind) else "inferred"
    alternatives = [
        *((value / bottom.value, source, note) for value, source, note in top.alternatives),
        *((top.value / value, source, note) for value, source, note in bottom.alternatives),
    ]
    sources = tuple(sorted({*top.sources, *bottom.sources}))
    return Figure(name, label, top.value / bottom.value, "ratio", kind, sources, "", tuple(alternatives))


def _figure(name: str, label: str, cited: Cited, dimension: str, times: float) -> Figure:
    alternatives = tuple((times * other.value, other.source, other.note) for other in readings(cited)[1:])
    return Figure(name, label, times * cited.value, dimension, cited.kind, (cited.source,), cited.note, alternatives)


def _ratio(name: str, first: Figure, other: Figure, over: str) -> Ratio:
    chosen = first.value / other.value
    if _same_readings(first, other, chosen):
        return Ratio(name, over, chosen, chosen, chosen)
    low = min(first.readings) / max(other.readings)
    high = max(first.readings) / min(other.readings)
    return Ratio(name, over, chosen, low, high)


def _same_readings(first: Figure, other: Figure, chosen: float) -> bool:
    """Whether the two figures differ by a factor only, whichever reading is taken."""
    pairs = zip(first.readings, other.readings, strict=False)
    same = all(math.isclose(a, chosen * b, rel_tol=1e-9) for a, b in pairs)
    return same and [a[1] for a in first.alternatives] == [b[1] for b in other.alternatives]
