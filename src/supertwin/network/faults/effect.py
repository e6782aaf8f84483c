"""What faults do to a fabric: devices lost, pairs cut off, bandwidth and latency of pairs, bisection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from supertwin.core.errors import Infeasible, InputError
from supertwin.network.topology.capacity import bisection_bytes_per_s
from supertwin.network.topology.graph import Graph
from supertwin.network.topology.patterns import all_to_all
from supertwin.network.topology.routes import HOST, Connection, connect
from supertwin.network.topology.symmetry import representatives


@dataclass(frozen=True, slots=True)
class PairEffect:
    """Ordered pairs of devices that fare alike; before and after are the connection of one of them."""

    pairs: int
    before: Connection
    after: Connection


@dataclass(frozen=True, slots=True)
class Effect:
    """Before against after.

    devices_lost: addresses; links_lost and links_degraded: connections (both directions count once), parallel links
    of one row together; cut_off: ordered pairs of devices that had a path and have none; mean_bytes_per_s: over the
    ordered pairs of one device with another, 0 where cut off. A large torus with faults has too many kinds of pairs:
    then `pairs` is empty and the means are NaN. bisection: (plane, before, after) in bytes/s.
    """

    faults: tuple[str, ...]
    devices_lost: tuple[str, ...]
    parts_lost: int
    links_lost: int
    links_degraded: int
    cut_off: int
    pairs: tuple[PairEffect, ...]
    mean_bytes_per_s: tuple[float, float]
    bisection: tuple[tuple[str, float, float], ...]


def effect(before: Graph, after: Graph) -> Effect:
    """Compares two graphs of the same system, usually a healthy one and `apply(healthy, faults)`. Raises InputError."""
    if before.parts != after.parts:
        raise InputError("expected two graphs of the same system and number of devices")
    rate = before.link_bytes_per_s[::2], after.link_bytes_per_s[::2]
    lost = after.device_parts[before.part_alive[after.device_parts] & ~after.part_alive[after.device_parts]]
    try:
        pairs = _pairs(before, after) if before.devices > 1 else ()
    except Infeasible:
        pairs = ()
    total = sum(row.pairs for row in pairs) or float("nan")
    return Effect(
        faults=after.faults[len(before.faults) :],
        devices_lost=tuple(after.parts[part] for part in lost),
        parts_lost=int((before.part_alive & ~after.part_alive).sum()),
        links_lost=int(((rate[0] > 0) & (rate[1] == 0)).sum()),
        links_degraded=int(((rate[1] > 0) & (rate[1] < rate[0])).sum()),
        cut_off=sum(row.pairs for row in pairs if row.before.paths and not row.after.paths),
        pairs=pairs,
        mean_bytes_per_s=(
            sum(row.pairs * row.before.bytes_per_s for row in pairs) / total,
            sum(row.pairs * row.after.bytes_per_s for row in pairs) / total,
        ),
        bisection=tuple(_bisection(before, after)),
    )


def _pairs(before: Graph, after: Graph) -> tuple[PairEffect, ...]:
    """One pair per kind in the graph after; pairs that fare alike are added up, most changed first."""
    number = {int(part): device for device, part in enumerate(after.device_parts)}
    found: dict[tuple[object, ...], PairEffect] = {}
    for source, targets, times in representatives(after, all_to_all(after.devices, 1.0)):
        for target, count in zip(targets.tolist(), times.tolist(), strict=True):
            ends = number[source], number[target]
            was, now = connect(before, *ends), connect(after, *ends)
            key = tuple((c.plane, c.paths, c.hops, round(c.bytes_per_s), round(c.latency_s, 12)) for c in (was, now))
            same = found.get(key)
            found[key] = (
                PairEffect(count + same.pairs, same.before, same.after) if same else PairEffect(count, was, now)
            )
    return tuple(sorted(found.values(), key=lambda row: row.after.bytes_per_s / max(1.0, row.before.bytes_per_s)))


def _bisection(before: Graph, after: Graph) -> list[tuple[str, float, float]]:
    if int(np.ceil(before.devices / 2)) == before.devices:
        return []
    planes = [plane for plane in before.planes if plane != HOST]
    rows = [(plane, bisection_bytes_per_s(before, [plane]), bisection_bytes_per_s(after, [plane])) for plane in planes]
    return [row for row in rows if row[1] > 0]
