"""A system: chips in nodes, joined by nested fabric tiers, with power and price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

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
    scale_out: joins several systems (the only tiers that reach beyond `System.full_devices`).
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
    scale_out: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A component of the bill of materials: how many in the full system, power and price of one.

    group: chip | cpu | switch | optics | cable | memory | other | structure. follows: the load its power follows
    (none: always max_w | network | compute). scale_out_only: present only when several systems are joined.
    idle_w and max_w are 0 and price_usd is None where the catalogue has no value of its own for the part.
    """

    name: str
    title: str
    group: str
    count: float
    idle_w: float = 0.0
    max_w: float = 0.0
    follows: str = "none"
    price_usd: float | None = None
    scale_out_only: bool = False


@dataclass(frozen=True, slots=True)
class Plane:
    """One network plane: bandwidth per device in one direction; latency 0 where unknown."""

    name: str
    description: str
    bandwidth_bytes_per_s: float
    latency_s: float = 0.0


@dataclass(frozen=True, slots=True)
class System:
    """A machine that can be rented, or `devices` of it (`cm384:128`).

    tiers: innermost first; the last one may be larger than the system (scale-out).
    counts: inventory by part name (npu packages, cpus, nodes, racks, switches, transceivers ...).
    power_w / price_usd: whole catalogue system at full size (not of the `:N` part); None where unknown.
    host_memory_bytes_per_node, host_link_bytes_per_s (per device, to host memory).
    planes: network planes for `show`. parts: bill of materials of one full system.
    cited: every value of the TOML by dotted name (`tiers.ub.bandwidth`, `parts.cpu.max`); the chip's are in chip.cited.
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
    host_memory_bytes_per_s_per_node: float = 0.0  # 0 where the catalogue has none
    pue: float = 1.2
    cited: Mapping[str, Cited] = field(default_factory=dict)
    planes: tuple[Plane, ...] = ()
    parts: tuple[Part, ...] = ()

    @property
    def nodes(self) -> int:
        """Nodes that the devices in use touch."""
        return -(-self.devices // self.devices_per_node)

    @property
    def systems(self) -> int:
        """Full systems that the devices in use touch; above 1 the scale-out tier is used."""
        return -(-self.devices // self.full_devices)


def cut_to_the_node(system: System) -> System:
    """The same machine without its bus between nodes: what leaves a node takes the scale-out network (what-if)."""
    tiers = tuple(t for t in system.tiers if t.scale_out or t.devices <= system.devices_per_node)
    return replace(system, tiers=tiers, title=f"{system.title}, scale-up cut to the node")


def has_bus_beyond_the_node(system: System) -> bool:
    """Whether cutting the scale-up to the node changes anything."""
    return len(cut_to_the_node(system).tiers) < len(system.tiers)
