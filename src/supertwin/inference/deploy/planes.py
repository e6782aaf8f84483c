"""Which plane carries a block from one device or host memory to another, at what rate.

    time of n blocks of S bytes = n (fixed^p + (S / rate)^p)^(1/p)                 network/transfer.py

Measured constants where the chip has them (UB and RoCE of the CloudMatrix 384: table 1 of its paper, HIXL); elsewhere
the line rate of the tier times the share that unmeasured engines reach.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from supertwin.core.errors import InputError, UnknownName
from supertwin.machine.system import System, Tier
from supertwin.network.transfer import UNMEASURED_SHARE, Path, evaluate_transfer, transfer_constants

PLANES = ("ub", "rdma")
"""ub: the scale-up plane of the machine (UB, NVLink ...); rdma: its scale-out network."""
_ALSO = {"scale-up": "ub", "nvlink": "ub", "xgmi": "ub", "scale-out": "rdma", "roce": "rdma", "ib": "rdma"}
_MEASURED = {("huawei", "ub"): "ub", ("huawei", "rdma"): "roce-domain"}


@dataclass(frozen=True, slots=True)
class Line:
    """One device's way into a plane. line_bytes_per_s: its rate without protocol; constants: of transfer.py."""

    plane: str
    line_bytes_per_s: float
    constants: Mapping[str, float]

    def seconds(self, block_bytes: float, blocks: float = 1.0) -> float:
        """Time in s of `blocks` blocks of block_bytes, one after the other."""
        return blocks * float(evaluate_transfer(self.constants, block_bytes)) if block_bytes > 0 else 0.0

    def bytes_per_s(self, block_bytes: float) -> float:
        """Rate that blocks of that size reach."""
        return block_bytes / self.seconds(block_bytes)


def plane_of(system: System, name: str) -> str:
    """The plane by any of its names. Raises UnknownName; InputError where the machine lacks it."""
    plane = _ALSO.get(name.lower(), name.lower())
    if plane not in PLANES:
        raise UnknownName("plane", name, (*PLANES, *_ALSO))
    if not _tiers(system, plane):
        inside = max((t.devices for t in system.tiers if not t.scale_out), default=1)
        what = f"joins {inside} devices" if plane == "ub" else "is not in the catalogue"
        other = next(p for p in PLANES if p != plane)
        raise InputError(f"the {plane} plane of {system.name} {what}; expected {other} for {system.devices} devices")
    return plane


def line(system: System, plane: str, *, host: bool = False, pull: bool = True) -> Line:
    """A device's line to a remote device, or to a remote host's memory, in another node. Raises as plane_of."""
    plane = plane_of(system, plane)
    tier = _tiers(system, plane)[-1]
    engine = _MEASURED.get((system.chip.vendor, plane))
    found = None
    if engine is not None:
        path = Path(engine, inter_node=True, local="device", remote="host" if host else "device", write=not pull)
        found = _measured(system, path)
    if found is None:
        rate = tier.bandwidth_bytes_per_s * UNMEASURED_SHARE
        if host and system.host_link_bytes_per_s:
            rate = min(rate, system.host_link_bytes_per_s * UNMEASURED_SHARE)
        found = {"fixed_s": tier.latency_s, "bytes_per_s": rate, "sharpness": 1.0}
    return Line(plane, tier.bandwidth_bytes_per_s, found)


def _measured(system: System, path: Path) -> Mapping[str, float] | None:
    try:
        return transfer_constants(system.chip, path)
    except UnknownName:  # a chip of the vendor without link measurements
        return None


def _tiers(system: System, plane: str) -> list[Tier]:
    """Tiers of a plane, innermost first: what joins systems is rdma, the rest that leaves a package is scale-up,
    where it reaches all devices in use."""
    outer = [tier for tier in system.tiers if tier.scale_out]
    if plane == "rdma":
        return outer
    inside = [tier for tier in system.tiers if not tier.scale_out and tier.path != "d2d"]
    return inside if inside and inside[-1].devices >= system.devices else []
