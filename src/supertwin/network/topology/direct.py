"""Planes of direct links: meshes and tori."""

from __future__ import annotations

import math

import numpy as np

from supertwin.machine.system import System, Tier
from supertwin.network.topology.builder import Builder, Wire
from supertwin.network.topology.planes import Ids, Mesh, Torus
from supertwin.network.topology.trees import blocks


def mesh(builder: Builder, tier: Tier, plane: str, below: int) -> None:
    """Every device of a block to every other one outside its inner block, the rate of the tier split over them."""
    count, size = len(builder.devices), tier.devices
    peers = max(1, size - below)
    wire = Wire(tier.bandwidth_bytes_per_s / peers, tier.latency_s, plane, count=max(1, tier.links_per_device // peers))
    table = np.full((count, size), -1, np.int32)
    place = np.arange(count)
    for low in range(size):
        for high in range(low + 1, size):
            if below > 1 and low // below == high // below:
                continue
            first = place[(place % size == low) & (place - low + high < count)]
            ids = builder.add_links(builder.devices[first], builder.devices[first - low + high], wire)
            table[first, high], table[first - low + high, low] = ids, ids ^ 1
    builder.structures.append(Mesh(plane, tier.bandwidth_bytes_per_s, table, builder.device_of_part()))


def torus(builder: Builder, tier: Tier, plane: str) -> None:
    """A torus per scale-up domain; a part of a system is a slice with its own wrap-around links (assumption)."""
    system, count = builder.system, len(builder.devices)
    sides = torus_sides(system, tier, min(count, tier.devices))
    size = math.prod(sides)
    number, _ = blocks(count, size)
    place = np.arange(count) - number * size
    link = np.full((count, len(sides), 2), -1, np.int32)
    rate, stride = tier.bandwidth_bytes_per_s / max(1, tier.links_per_device), 1
    for axis, side in enumerate(sides):
        if side > 1:
            wire = Wire(rate, tier.latency_s, plane, role=axis)
            _ring(builder, wire, link[:, axis], (place, stride, side))
        stride *= side
    first = (number * size).astype(np.int32)
    here = builder.device_of_part()
    builder.structures.append(Torus(plane, tier.bandwidth_bytes_per_s, rate, sides, link, first, here))


def _ring(builder: Builder, wire: Wire, link: Ids, axis: tuple[Ids, int, int]) -> None:
    """Links one step up an axis; an axis of two places has one link, not two."""
    place, stride, side = axis
    at = place // stride % side
    device = np.arange(len(place))
    up = device + np.where(at < side - 1, stride, -(side - 1) * stride)
    here = device[(up < len(place)) & ((side > 2) | (at == 0))]
    ids = builder.add_links(builder.devices[here], builder.devices[up[here]], wire)
    link[here, 0], link[up[here], 1] = ids, ids ^ 1
    if side == 2:
        link[here, 1], link[up[here], 0] = ids, ids ^ 1


def torus_sides(system: System, tier: Tier, devices: int) -> tuple[int, ...]:
    """Sides as the catalogue states them for a full system, else the most even factors."""
    named = [f"fabric.torus_{axis}" for axis in "xyz"]
    stated = tuple(int(system.cited[name].value) for name in named if name in system.cited)
    if stated and math.prod(stated) == devices:
        return stated
    return even_sides(devices, 1 if tier.topology == "ring" else max(1, tier.links_per_device // 2))


def even_sides(devices: int, axes: int) -> tuple[int, ...]:
    """Factors of `devices` as even as they can be, ascending."""
    if axes == 1:
        return (devices,)
    root = int(devices ** (1 / axes) + 1e-9)
    side = next(d for d in range(max(1, root), 0, -1) if devices % d == 0)
    return (side, *even_sides(devices // side, axes - 1))
