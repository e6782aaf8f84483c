"""Collects parts and links in blocks of arrays and closes them into a Graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from supertwin.machine.system import System
from supertwin.network.topology.graph import Graph
from supertwin.network.topology.planes import Clos, Ids, Level, Structure


@dataclass(frozen=True, slots=True)
class Wire:
    """What one connection is: bytes/s in each direction, seconds of the hop, plane, number of parallel links."""

    bytes_per_s: float
    latency_s: float
    plane: str
    optical: bool = False
    count: int = 1
    role: int = 0


@dataclass(slots=True)
class Builder:
    """Parts and links so far. `devices` holds the part ids of the devices in rank order."""

    system: System
    names: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    planes: list[str] = field(default_factory=list)
    structures: list[Structure] = field(default_factory=list)
    devices: Ids = field(default_factory=lambda: np.zeros(0, np.int32))
    _kind: list[Ids] = field(default_factory=list)
    _node: list[Ids] = field(default_factory=list)
    _links: list[tuple[Ids, Ids, Wire]] = field(default_factory=list)
    _size: int = 0

    def add_parts(self, kind: str, names: Sequence[str], node: npt.ArrayLike = -1) -> Ids:
        """New parts; returns their ids in the order of the names."""
        if kind not in self.kinds:
            self.kinds.append(kind)
        start, count = len(self.names), len(names)
        self.names.extend(names)
        self._kind.append(np.full(count, self.kinds.index(kind), np.int32))
        self._node.append(np.broadcast_to(np.asarray(node, np.int32), (count,)))
        return np.arange(start, start + count, dtype=np.int32)

    def add_links(self, low: npt.ArrayLike, high: npt.ArrayLike, wire: Wire) -> Ids:
        """Both directions between parts pair by pair; returns the ids of the links low -> high (back: id ^ 1)."""
        if wire.plane not in self.planes:
            self.planes.append(wire.plane)
        below = np.ascontiguousarray(low, np.int32).ravel()
        above = np.ascontiguousarray(high, np.int32).ravel()
        ids = self._size + 2 * np.arange(len(below), dtype=np.int32)
        self._links.append((below, above, wire))
        self._size += 2 * len(below)
        return ids.astype(np.int32)

    def level(self, low: Ids, uplink: Ids) -> Level:
        """A level of a tree: rows of `uplink` [rows, columns] belong to the parts `low`."""
        row = np.full(len(self.names), -1, np.int32)
        row[low] = np.arange(len(low))
        return Level(row, uplink.reshape(len(low), -1).astype(np.int32))

    def device_of_part(self) -> Ids:
        """Device number of each part so far, -1 for the others."""
        found = np.full(len(self.names), -1, np.int32)
        found[self.devices] = np.arange(len(self.devices))
        return found

    def close(self) -> Graph:
        """The graph of everything added."""
        column = self._column
        return Graph(
            system=self.system,
            parts=tuple(self.names),
            kinds=tuple(self.kinds),
            part_kind=np.concatenate(self._kind).astype(np.int8),
            device_parts=self.devices,
            link_from=self._ends(0, 1),
            link_to=self._ends(1, 0),
            link_bytes_per_s=column("bytes_per_s", np.float64),
            link_latency_s=column("latency_s", np.float64),
            link_count=column("count", np.int32),
            planes=tuple(self.planes),
            link_plane=self._by_block([self.planes.index(w.plane) for _, _, w in self._links], np.int8),
            link_optical=column("optical", np.bool_),
            part_node=np.concatenate(self._node).astype(np.int32),
            link_role=column("role", np.int8),
            part_alive=np.ones(len(self.names), np.bool_),
            part_mark=np.zeros(len(self.names), np.uint64),
            structures=tuple(_padded(structure, len(self.names)) for structure in self.structures),
        )

    def _ends(self, even: int, odd: int) -> Ids:
        ends = np.empty(self._size, np.int32)
        pairs = [(block[even], block[odd]) for block in self._links]
        if pairs:
            ends[0::2] = np.concatenate([p[0] for p in pairs])
            ends[1::2] = np.concatenate([p[1] for p in pairs])
        return ends

    def _column(self, name: str, dtype: Any) -> npt.NDArray[Any]:
        return self._by_block([getattr(wire, name) for _, _, wire in self._links], dtype)

    def _by_block(self, values: Sequence[Any], dtype: Any) -> npt.NDArray[Any]:
        lengths = [2 * len(low) for low, _, _ in self._links]
        return np.repeat(np.asarray(values, dtype), lengths)


def _padded(structure: Structure, parts: int) -> Structure:
    """Tables by part id grow to all parts: -1 for those added after the plane."""
    if isinstance(structure, Clos):
        return replace(structure, levels=tuple(Level(_longer(v.row, parts), v.uplink) for v in structure.levels))
    return replace(structure, device_of_part=_longer(structure.device_of_part, parts))


def _longer(table: Ids, parts: int) -> Ids:
    return np.concatenate([table, np.full(parts - len(table), -1, np.int32)])
