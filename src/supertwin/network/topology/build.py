"""The graph of a system, from its catalogue entry by rules.

    tiers of one path, the outer one switched      two levels of switches in sub-planes (UB)
    switch                                         a star over the switches that the catalogue counts (NVSwitch, PCIe)
    mesh                                           a direct link per pair         torus, ring   neighbours per axis
    scale-out fat tree                             adapter per device, rail-optimised leaves, spines, cores

Host processors sit on the scale-up plane where the catalogue gives their bandwidth there, else behind the host link.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from supertwin.machine.system import System, Tier
from supertwin.network.topology.builder import Builder, Wire
from supertwin.network.topology.direct import mesh, torus
from supertwin.network.topology.graph import Graph
from supertwin.network.topology.planes import Clos, Ids
from supertwin.network.topology.trees import fat_tree, star, two_levels

DEVICE_WORD = {"huawei": "npu", "nvidia": "gpu", "amd": "gpu", "google": "tpu", "intel": "npu"}
SWITCH_WORD = {"nvlink": "nvswitch", "pcie": "pcie-switch", "ub": "ub-l1"}
RDMA_PATHS = ("ib", "roce", "efa")
VPC_LATENCY_S = 20e-6  # assumption: Ethernet through the host stack, as the TCP tiers of the catalogue


def build(system: System) -> Graph:
    """Every part and link of the devices in use of a system."""
    builder = Builder(system)
    _devices(builder)
    cpus = _processors(builder)
    tiers = [tier for tier in system.tiers if tier.devices > 1]
    below = 1
    for place, tier in enumerate(tiers):
        inner = tiers[place - 1] if place else None
        if tier.scale_out and tier.topology == "fat-tree":
            _scale_out(builder, tier)
        elif not _covered(tiers, place):
            _scale_up(builder, tier, inner if _same_clos(inner, tier) else None, below)
        if builder.structures and not _covered(tiers, place):
            builder.structures[-1] = replace(builder.structures[-1], reach=tier.devices)
        below = tier.devices
    if len(cpus) and "fabric.cpu_bandwidth" not in system.cited:
        _host_links(builder, cpus)
    _vpc(builder)
    return builder.close()


def plane_name(tier: Tier) -> str:
    """Plane that a tier belongs to: its path, `rdma` for scale-out adapters."""
    if tier.scale_out and tier.topology == "fat-tree":
        return "rdma" if tier.path in RDMA_PATHS else tier.path
    return tier.path


def _same_clos(inner: Tier | None, outer: Tier) -> bool:
    """Two tiers share their links when they run over the same path and the outer one is switched.

    A mesh reading of the inner tier would leave less than the stated rate for the outer one.
    """
    return inner is not None and inner.path == outer.path and outer.topology == "switch"


def _covered(tiers: list[Tier], place: int) -> bool:
    return place + 1 < len(tiers) and _same_clos(tiers[place], tiers[place + 1])


def _scale_up(builder: Builder, tier: Tier, inner: Tier | None, below: int) -> None:
    plane = _free_name(builder, plane_name(tier))
    if tier.topology in ("torus", "ring"):
        torus(builder, tier, plane)
    elif tier.topology == "mesh":
        mesh(builder, tier, plane, below)
    elif inner is not None or "l1_chip" in builder.system.counts:
        two_levels(builder, inner or tier, tier, plane)
    else:
        system = builder.system
        switches = round(system.counts.get("scale_up_switch", 1.0) * min(1.0, tier.devices / system.full_devices))
        star(builder, tier, plane, max(1, switches), SWITCH_WORD.get(tier.path, f"{tier.path}-switch"))


def _free_name(builder: Builder, name: str) -> str:
    """Plane names are unique: a second tier of the same path gets a number."""
    taken = {structure.plane for structure in builder.structures}
    return name if name not in taken else f"{name}{len(taken) + 1}"


def _devices(builder: Builder) -> None:
    system = builder.system
    per_node, per_package = system.devices_per_node, system.chip.devices_per_package
    word = DEVICE_WORD.get(system.chip.vendor, "device")
    within = [
        f"{word}{i // per_package}" + (f"/die{i % per_package}" if per_package > 1 else "") for i in range(per_node)
    ]
    names = [f"node{i // per_node}/{within[i % per_node]}" for i in range(system.devices)]
    builder.devices = builder.add_parts("device", names, np.arange(system.devices) // per_node)


def _processors(builder: Builder) -> Ids:
    system = builder.system
    number = system.counts.get("cpu", system.counts.get("host", 0.0)) * system.devices_per_node / system.full_devices
    each = int(np.ceil(number - 1e-9))
    names = [f"node{n}/cpu{c}" for n in range(system.nodes) for c in range(each)]
    return builder.add_parts("cpu", names, np.repeat(np.arange(system.nodes), each))


def _host_links(builder: Builder, cpus: Ids) -> None:
    """Each device to the processor of its share of the node."""
    system = builder.system
    each = len(cpus) // system.nodes
    device = np.arange(system.devices)
    cpu = cpus[
        device // system.devices_per_node * each + device % system.devices_per_node * each // system.devices_per_node
    ]
    up = builder.add_links(builder.devices, cpu, Wire(system.host_link_bytes_per_s, 0.5e-6, "host"))
    builder.structures.append(Clos("host", system.host_link_bytes_per_s, (builder.level(builder.devices, up),)))


def _scale_out(builder: Builder, tier: Tier) -> None:
    system, plane = builder.system, plane_name(tier)
    per_node, rate = system.devices_per_node, tier.bandwidth_bytes_per_s
    names = [f"{builder.names[d]}/nic" for d in builder.devices]
    nics = builder.add_parts("nic", names, np.arange(system.devices) // per_node)
    up = builder.add_links(builder.devices, nics, Wire(rate, tier.latency_s / 4, plane))
    ends = np.full(system.nodes * per_node, -1, np.int32)
    ends[: len(nics)] = nics
    wire = Wire(rate, tier.latency_s / 4, plane, optical=True, role=3)
    levels = fat_tree(builder, builder.level(builder.devices, up), ends.reshape(system.nodes, per_node), plane, wire)
    builder.structures.append(Clos(plane, rate, levels))


def _vpc(builder: Builder) -> None:
    """One card per node, of which each device has its share; a single rail of leaves."""
    system = builder.system
    plane = next((plane for plane in system.planes if plane.name == "vpc"), None)
    if plane is None:
        return
    rate = plane.bandwidth_bytes_per_s * system.devices_per_node
    names = [f"node{n}/vpc-card" for n in range(system.nodes)]
    cards = builder.add_parts("card", names, np.arange(system.nodes))
    home = cards[np.arange(system.devices) // system.devices_per_node]
    step = (plane.latency_s or VPC_LATENCY_S) / 4
    up = builder.add_links(builder.devices, home, Wire(plane.bandwidth_bytes_per_s, step, "vpc"))
    low = builder.level(builder.devices, up)
    levels = fat_tree(builder, low, cards.reshape(-1, 1), "vpc", Wire(rate, step, "vpc", role=3))
    builder.structures.append(Clos("vpc", plane.bandwidth_bytes_per_s, levels))
