"""Switched planes: NVSwitch and PCIe stars, the two levels of UB, rail-optimised fat trees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from supertwin.machine.system import System, Tier
from supertwin.network.topology.builder import Builder, Wire
from supertwin.network.topology.planes import Clos, Ids, Level

SWITCH_PORTS = 64  # source: fat-tree rule of the catalogue (64-port switches)
L2_CHIPS = 16  # assumption where the catalogue counts none: as CM384
# Extra time of one link between leaf and spine; half of what crossing leaves adds (DeepSeek-V3 hardware paper, table 5:
# InfiniBand 2.8 -> 3.7 us, RoCE 3.6 -> 5.6 us). Other fabrics: assumption, as RoCE.
SPINE_LINK_S = {"ib": 0.45e-6}
OTHER_SPINE_LINK_S = 1.0e-6


def blocks(devices: int, size: int) -> tuple[Ids, int]:
    """Block number of every device when blocks of `size` neighbours fill up, and the number of blocks."""
    number = np.arange(devices, dtype=np.int32) // size
    return number, int(-(-devices // size))


def star(builder: Builder, tier: Tier, plane: str, switches: int, name: str) -> None:
    """Every device of a block of the tier to every switch of the block, its links spread evenly over the switches."""
    system, devices = builder.system, builder.devices
    block, count = blocks(len(devices), tier.devices)
    chips = builder.add_parts(
        "switch-l1",
        [f"{prefix}{name}-{c}" for prefix in block_names(system, tier.devices) for c in range(switches)],
        _block_nodes(system, tier.devices, count, switches),
    ).reshape(count, switches)
    builder.structures.append(Clos(plane, tier.bandwidth_bytes_per_s, (_fan(builder, tier, plane, block, chips),)))


def _fan(builder: Builder, tier: Tier, plane: str, block: Ids, chips: Ids) -> Level:
    """Links from devices to the chips of their block; uneven shares (18 links to 4 switches) by rounding."""
    columns, links = chips.shape[1], max(tier.links_per_device, chips.shape[1])
    edges = np.round(np.arange(columns + 1) * links / columns).astype(int)
    uplink = np.empty((len(block), columns), np.int32)
    for column in range(columns):
        number = int(edges[column + 1] - edges[column])
        rate = tier.bandwidth_bytes_per_s * number / links
        wire = Wire(rate, tier.latency_s / 2, plane, count=number)
        uplink[:, column] = builder.add_links(builder.devices, chips[block, column], wire)
    return builder.level(builder.devices, uplink)


def two_levels(builder: Builder, inner: Tier, outer: Tier, plane: str) -> None:
    """UB: per block of the inner tier one L1 chip per sub-plane, each with one link to every L2 chip of its sub-plane.

    Host processors sit on the same L1 chips where the catalogue gives their bandwidth.
    """
    system = builder.system
    subplanes, l2 = sub_planes(system, inner), l2_chips(system)
    block, count = blocks(len(builder.devices), inner.devices)
    prefixes = block_names(system, inner.devices)
    l1 = builder.add_parts(
        "switch-l1",
        [f"{prefix}{plane}-l1-{p}" for prefix in prefixes for p in range(subplanes)],
        _block_nodes(system, inner.devices, count, subplanes),
    ).reshape(count, subplanes)
    low = _sub_plane_level(builder, inner, plane, block, l1)
    if outer is inner:
        builder.structures.append(Clos(plane, inner.bandwidth_bytes_per_s, (low,)))
        return
    domain = np.arange(count) * inner.devices // outer.devices
    tops = [
        f"{prefix}{plane}-l2-{p}-{k}"
        for prefix in system_names(system, outer.devices)
        for p in range(subplanes)
        for k in range(l2)
    ]
    chips = builder.add_parts("switch-l2", tops).reshape(-1, subplanes, l2)
    rate = inner.devices * inner.bandwidth_bytes_per_s / subplanes / l2 / outer.oversubscription
    wire = Wire(rate, (outer.latency_s - inner.latency_s) / 2, plane, optical=True, role=1)
    up = builder.add_links(np.repeat(l1.ravel(), l2), chips[domain], wire)
    high = builder.level(l1.ravel(), up.reshape(count * subplanes, l2))
    builder.structures.append(Clos(plane, inner.bandwidth_bytes_per_s, (low, high)))


def _sub_plane_level(builder: Builder, inner: Tier, plane: str, block: Ids, l1: Ids) -> Level:
    subplanes, system = l1.shape[1], builder.system
    wire = Wire(inner.bandwidth_bytes_per_s / subplanes, inner.latency_s / 2, plane)
    up = builder.add_links(np.repeat(builder.devices, subplanes), l1[block], wire)
    ends, links = builder.devices, up.reshape(-1, subplanes)
    cpus = [i for i, name in enumerate(builder.names) if "/cpu" in name]
    if "fabric.cpu_bandwidth" in system.cited and cpus:
        total = system.cited["fabric.cpu_bandwidth"].value
        ids = np.asarray(cpus, np.int32)
        nodes_per_block = max(1, inner.devices // system.devices_per_node)
        home = np.concatenate(builder._node)[ids] // nodes_per_block
        wire = Wire(total / subplanes, inner.latency_s / 2, plane)
        more = builder.add_links(np.repeat(ids, subplanes), l1[home], wire).reshape(-1, subplanes)
        ends, links = np.concatenate([ends, ids]), np.concatenate([links, more])
    return builder.level(ends, links)


def fat_tree(builder: Builder, low: Level, ends: Ids, plane: str, wire: Wire) -> tuple[Level, ...]:
    """Leaves, spines and, beyond two levels, cores above endpoints [nodes, rails] (-1: no endpoint).

    Rail-optimised: endpoint r of every node of a scalable unit goes to leaf r of that unit. Leaves
    and spines are 1:1 unless the tier is oversubscribed. wire: endpoint to leaf.
    """
    nodes, rails = ends.shape
    half = SWITCH_PORTS // 2
    units = -(-nodes // (half if nodes > SWITCH_PORTS or (rails > 1 and nodes > half) else SWITCH_PORTS))
    per_leaf = -(-nodes // units)
    leaf_names = [f"{plane}-leaf-{r}-{u}" for u in range(units) for r in range(rails)]
    leaves = builder.add_parts("leaf", leaf_names).reshape(units, rails)
    home = leaves[np.arange(nodes) // per_leaf]
    there = ends >= 0
    up = builder.add_links(ends[there], home[there], wire)
    levels = [low, builder.level(ends[there], up)]
    if leaves.size > 1:
        levels += _upper(builder, leaves, per_leaf, wire)
    return tuple(levels)


def _upper(builder: Builder, leaves: Ids, uplinks: int, wire: Wire) -> list[Level]:
    units, rails = leaves.shape
    plane, half = wire.plane, SWITCH_PORTS // 2
    pods_units = units if leaves.size <= SWITCH_PORTS else max(1, half // rails)
    pods = -(-units // pods_units)
    two = pods == 1
    spines = _divisor(uplinks, leaves.size * uplinks / SWITCH_PORTS) if two else uplinks
    spine_names = [
        f"{plane}-spine-{p}-{s}" if pods > 1 else f"{plane}-spine-{s}" for p in range(pods) for s in range(spines)
    ]
    top = builder.add_parts("spine", spine_names).reshape(pods, spines)
    pod_of_leaf = np.repeat(np.arange(units) // pods_units, rails)
    trunk = uplinks // spines
    latency_s, over = _spine(builder.system)
    rate = wire.bytes_per_s / over
    link = Wire(rate * trunk, latency_s, plane, True, trunk, 1)
    up = builder.add_links(np.repeat(leaves.ravel(), spines), top[pod_of_leaf], link)
    levels = [builder.level(leaves.ravel(), up)]
    if pods > 1:
        down = pods_units * rails
        cores = _divisor(down, pods * down / SWITCH_PORTS)
        chips = builder.add_parts("core", [f"{plane}-core-{s}-{k}" for s in range(spines) for k in range(cores)])
        link = Wire(rate * (down // cores), latency_s, plane, True, down // cores, 2)
        homes = np.broadcast_to(chips.reshape(1, spines, cores), (pods, spines, cores))
        up = builder.add_links(np.repeat(top.ravel(), cores), homes, link)
        levels.append(builder.level(top.ravel(), up))
    return levels


def _spine(system: System) -> tuple[float, float]:
    """Seconds of one link between leaf and spine, and oversubscription of the scale-out tier."""
    tier = next((t for t in system.tiers if t.scale_out), None)
    if tier is None:
        return OTHER_SPINE_LINK_S, 1.0
    return SPINE_LINK_S.get(tier.path, OTHER_SPINE_LINK_S), tier.oversubscription


def _divisor(number: int, least: float) -> int:
    """Smallest divisor of `number` that is at least `least` (or `number` itself)."""
    return next((d for d in range(1, number + 1) if number % d == 0 and d >= least - 1e-9), number)


def sub_planes(system: System, inner: Tier) -> int:
    """L1 chips per block: as counted by the catalogue, else one per link of a device."""
    if "l1_chip" in system.counts:
        return round(system.counts["l1_chip"] * inner.devices / system.full_devices)
    return inner.links_per_device


def l2_chips(system: System) -> int:
    """L2 chips per sub-plane."""
    if "l2_chip" in system.counts and "subplane" in system.counts:
        return round(system.counts["l2_chip"] / system.counts["subplane"])
    if "fabric.l2_chips" in system.cited:
        return int(system.cited["fabric.l2_chips"].value)
    return L2_CHIPS


def block_names(system: System, size: int) -> Sequence[str]:
    """Address prefix of every block of `size` devices: nodes, racks of several nodes, or systems."""
    _, count = blocks(system.devices, size)
    if size == system.devices_per_node:
        return [f"node{i}/" for i in range(count)]
    if size < system.devices_per_node:
        per = system.devices_per_node // size
        return [f"node{i // per}/group{i % per}/" for i in range(count)]
    if size >= system.full_devices:
        return system_names(system, size)
    return [f"rack{i}/" for i in range(count)]


def system_names(system: System, size: int) -> Sequence[str]:
    """Address prefix of every scale-up domain of `size` devices; none when there is one domain."""
    _, count = blocks(system.devices, size)
    return [f"system{i}/" for i in range(count)] if count > 1 else [""]


def _block_nodes(system: System, size: int, count: int, each: int) -> Ids:
    if size > system.devices_per_node:
        return np.full(count * each, -1, np.int32)
    per = system.devices_per_node // size
    return np.repeat(np.arange(count, dtype=np.int32) // per, each).astype(np.int32)
