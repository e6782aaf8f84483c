"""The fabric as built: every part with an address, every link with a capacity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from supertwin.machine.system import System


@dataclass(frozen=True, slots=True)
class Graph:
    """Parts and directed links of the devices in use of a system, as columns.

    parts: addresses ("node3/npu5/die1", "node3/cpu2", "node3/ub-l1-4", "ub-l2-4-11", "node3/npu5/die1/nic" ...), index =
    part id; part_kind: index into kinds (device, cpu, nic, switch-l1, switch-l2, leaf, spine ...), [parts].
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
