"""Pooled context cache: keys and values of prefixes kept in HBM, in host memory, or on disks behind a network.

A prompt of L tokens of which a share h is cached computes (1 - h) L tokens against L keys and first loads h L of them:

    T(h) = load(h L) + prefill((1 - h) L against L)                                                          (1)

The load is not hidden: the UB and VPC planes of the CloudMatrix 384 paper (5.4) would not differ in throughput if it
were. It pays where load(t) < prefill saved by t tokens; the break-even is its root (2).
"""

from __future__ import annotations

from dataclasses import dataclass

from supertwin.core.errors import InputError, UnknownName
from supertwin.inference.deploy.planes import Line, line
from supertwin.machine.system import System
from supertwin.network.transfer import UNMEASURED_SHARE, Path, transfer_time

BLOCK_TOKENS = 128.0
"""Tokens of one block of a paged cache (vllm-ascend's block size; the paper's EMS keeps blocks of 128 to 512)."""
SOCKETS = "cpu"
MEDIA = {
    "hbm": "the device's own memory",
    "host": "memory of the own node",
    "ub": "host memory of all nodes over the scale-up plane (EMS)",
    "rdma": "host memory of all nodes over the scale-out network",
    "vpc": "host memory of all nodes over the cloud network",
    "ssd": "disks behind the cloud network (EVS, 400 Gb/s per node)",
}
_CLOUD_LATENCY_S = 100e-6
"""First byte over a virtual private network (assumption: kernel TCP through a DPU)."""


@dataclass(frozen=True, slots=True)
class Medium:
    """Where cached prefixes lie. line: of one device when it loads alone; share_bytes_per_s: what is left for a device
    when all devices load at once (memory and sockets of the hosts); capacity_bytes: of all nodes in use."""

    name: str
    line: Line | None
    share_bytes_per_s: float
    capacity_bytes: float

    def load_s(self, size_bytes: float, block_bytes: float, busy: float = 1.0) -> float:
        """Time in s in which one device loads size_bytes in blocks; busy: share of the devices that load with it."""
        if self.line is None or size_bytes <= 0:
            return 0.0
        blocks = size_bytes / block_bytes
        return max(self.line.seconds(block_bytes, blocks), size_bytes * busy / self.share_bytes_per_s)


def medium_of(system: System, name: str) -> Medium:
    """The medium by name on a machine. Raises UnknownName; InputError where the machine lacks what carries it."""
    if name not in MEDIA:
        raise UnknownName("place of the context cache", name, MEDIA)
    hosts = system.host_memory_bytes_per_node * system.nodes
    if name == "hbm":
        return Medium(name, None, system.chip.memory_bytes_per_s, 0.0)
    if name == "host":
        return Medium(name, _host_line(system), _host_share(system), hosts)
    if name in ("vpc", "ssd"):
        found = _cloud_line(system)
        return Medium(name, found, found.constants["bytes_per_s"], hosts if name == "vpc" else float("inf"))
    if name == "ub" and not reaches_hosts(system):
        raise InputError(
            f"devices of {system.name} reach other nodes' host memory over rdma only; expected rdma or host"
        )
    return Medium(name, line(system, name, host=True), _host_share(system), hosts)


def reaches_hosts(system: System) -> bool:
    """Whether devices read other nodes' host memory over the scale-up plane: UB does, NVLink and xGMI do not."""
    return any(tier.path == "ub" for tier in system.tiers)


def _host_line(system: System) -> Line:
    if not system.host_link_bytes_per_s:
        raise InputError(f"{system.name} has no host.link in the catalogue; expected the cache in hbm")
    found = transfer_time(system, 1.0, Path(remote="host"))
    full = transfer_time(system, 1e9, Path(remote="host"))
    rate = 1e9 / full.bandwidth_s if full.bandwidth_s else system.host_link_bytes_per_s * UNMEASURED_SHARE
    constants = {"fixed_s": found.time_s, "bytes_per_s": rate, "sharpness": 1.0}
    return Line("host", system.host_link_bytes_per_s, {name: float(value) for name, value in constants.items()})


def _host_share(system: System) -> float:
    """Bytes/s per device when all of a node read from hosts: their memory, and their sockets' UB where it is known."""
    memory = system.host_memory_bytes_per_s_per_node * UNMEASURED_SHARE or float("inf")
    socket = system.cited.get("fabric.cpu_bandwidth")
    cpus = system.counts.get(SOCKETS, 0.0) * system.devices_per_node / max(system.full_devices, 1)
    wires = socket.value * cpus if socket is not None and cpus else float("inf")
    return min(memory, wires) / system.devices_per_node


def _cloud_line(system: System) -> Line:
    plane = next((plane for plane in system.planes if plane.name == "vpc"), None)
    if plane is None:
        raise InputError(f"{system.name} has no vpc plane in the catalogue; expected hbm, host, ub or rdma")
    rate = plane.bandwidth_bytes_per_s * UNMEASURED_SHARE
    constants = {"fixed_s": _CLOUD_LATENCY_S, "bytes_per_s": rate, "sharpness": 8.0}  # many blocks are in flight
    return Line("vpc", plane.bandwidth_bytes_per_s, constants)


def break_even_tokens(load_fixed_s: float, load_s_per_token: float, prefill_s_per_token: float) -> float:
    """(2): prefix above which loading is shorter than computing; inf where the medium is slower than prefill."""
    gain = prefill_s_per_token - load_s_per_token
    return load_fixed_s / gain if gain > 0 else float("inf")
