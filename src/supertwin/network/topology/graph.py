"""The fabric as built: every part with an address, every link with a capacity."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from supertwin.core.errors import UnknownName
from supertwin.machine.system import System
from supertwin.network.topology.planes import Structure


@dataclass(frozen=True, slots=True)
class Graph:
    """Parts and directed links of the devices in use of a system, as columns.

    parts: addresses ("node3/npu5/die1", "node3/cpu2", "node3/ub-l1-4", "ub-l2-4-11", "node3/npu5/die1/nic" ...), index
    = part id; part_kind: index into kinds (device, cpu, nic, switch-l1, switch-l2, leaf, spine ...), [parts].
    device_parts: part id of device 0, 1, ... in the order of device numbers (rank order), [devices].
    link_from, link_to: part ids, [links]; link_bytes_per_s: capacity in that direction (parallel links of a pair are
    one row; `link_count` says how many); link_latency_s: of this hop; link_plane: index into planes (ub, rdma, vpc,
    nvlink, d2d ...); link_optical: whether the link is optical (two transceivers).
    """

    system: System
    parts: tuple[str, ...]
    kinds: tuple[str, ...]
    part_kind: npt.NDArray[np.int8]
    device_parts: npt.NDArray[np.int32]
    link_from: npt.NDArray[np.int32]
    link_to: npt.NDArray[np.int32]
    link_bytes_per_s: npt.NDArray[np.float64]
    link_latency_s: npt.NDArray[np.float64]
    link_count: npt.NDArray[np.int32]
    planes: tuple[str, ...]
    link_plane: npt.NDArray[np.int8]
    link_optical: npt.NDArray[np.bool_]
    part_node: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    link_role: npt.NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, np.int8))
    part_alive: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    structures: tuple[Structure, ...] = ()
    faults: tuple[str, ...] = ()
    part_mark: npt.NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))

    @property
    def devices(self) -> int:
        """Devices in use, those lost included."""
        return len(self.device_parts)

    def part(self, address: str) -> int:
        """Part id of an address. Raises UnknownName with the nearest ones."""
        try:
            return self.parts.index(address)
        except ValueError:
            raise UnknownName(f"part of {self.system.name}", address, self.parts) from None

    def kind_of(self, part: int) -> str:
        """Kind of one part by name."""
        return self.kinds[int(self.part_kind[part])]

    def of_kind(self, kind: str) -> npt.NDArray[np.int64]:
        """Part ids of one kind; empty when the system has none."""
        if kind not in self.kinds:
            return np.zeros(0, np.int64)
        return np.flatnonzero(self.part_kind == self.kinds.index(kind))

    def structure(self, plane: str) -> Structure:
        """How routes are found in a plane. Raises UnknownName."""
        for structure in self.structures:
            if structure.plane == plane:
                return structure
        raise UnknownName(f"plane of {self.system.name}", plane, [s.plane for s in self.structures])
