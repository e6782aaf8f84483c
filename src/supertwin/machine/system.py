"""A system: chips in nodes, joined by nested fabric tiers, with power and price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from supertwin.machine.chip import Chip, Cited


@dataclass(frozen=True, slots=True)
class Tier:
    """One level of the fabric, innermost first: all groups of `devices` neighbours that it joins.

    bandwidth_bytes_per_s: what one device can send into this tier, one direction, line rate.
    latency_s: smallest end-to-end time of a small message across it (software included only if the source says so).
    topology: switch (any to any at full rate) | mesh (direct links, rate split over peers) | ring | torus | fat-tree.
    path: link class as in collectives.csv (nvlink xgmi ib roce ub hccs pcie efa tcp ici d2d).
    reduction: the switches can reduce (NVLS, SHARP).
    oversubscription: 1.0 is non-blocking.
    """

    name: str
    path: str
    devices: int
    bandwidth_bytes_per_s: float
    latency_s: float
    topology: str = "switch"
    reduction: bool = False
    oversubscription: float = 1.0
    links_per_device: int = 1


@dataclass(frozen=True, slots=True)
class System:
    """A machine that can be rented, or `devices` of it (`cm384:128`).

    tiers: innermost first; the last one may be larger than the system (scale-out).
    counts: inventory by part name (npu packages, cpus, nodes, racks, switches, transceivers ...).
    power_w / price_usd: whole catalogue system at full size (not of the `:N` part); None where unknown.
    host_memory_bytes_per_node, host_link_bytes_per_s (per device, to host memory).
    planes: name -> {description, bandwidth_bytes_per_s per device, latency_s} for `show`.
    """

    name: str
    title: str
    chip: Chip
    devices: int  # devices in use
    full_devices: int  # devices of one catalogue system (768 for cm384)
    devices_per_node: int
    tiers: tuple[Tier, ...]
    counts: Mapping[str, float] = field(default_factory=dict)
    power_w: float | None = None
    price_usd: float | None = None
    host_memory_bytes_per_node: float = 0.0
    host_link_bytes_per_s: float = 0.0
    pue: float = 1.2
    cited: Mapping[str, Cited] = field(default_factory=dict)
