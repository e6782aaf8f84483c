"""What every pair of packages gets: bandwidth of one stream and latency of a small message, package by package.

Pairs of devices with equal links on all levels, in equal relation (same package, node, system), are one class, so that
589,056 pairs of dies cost a few route searches. Routes give the share of the line rate and the extra hops; the measured
rate and latency of a stream (network.transfer) hold for a healthy route of its kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from supertwin.machine.system import System
from supertwin.network import Path, transfer_time
from supertwin.network.links import load_links
from supertwin.network.topology.planes import Clos, Structure
from supertwin.network.topology.routes import AUTO, Connection, connect
from supertwin.network.transfer import UNMEASURED_SHARE

if TYPE_CHECKING:
    from supertwin.network.topology import Graph

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOST_PLACES = 512  # packages in a matrix; larger systems are sampled evenly
SMALL_BYTES, LARGE_BYTES = 512.0, 2.0**28
DEVICES = ("device", "device")
RDMA_ENGINES = ("roce-cs", "nic")


@dataclass(frozen=True, slots=True)
class Matrix:
    """bytes_per_s and latency_s from package to package, [places, places]; 0 and inf where cut off.

    places: package numbers; classes: how many kinds of pairs there are. The diagonal is the link inside a package
    (NaN for packages of one device).
    """

    places: Ints
    bytes_per_s: Floats
    latency_s: Floats
    classes: int

    @property
    def unreachable(self) -> int:
        """Ordered pairs of packages without a route."""
        off = ~np.eye(len(self.places), dtype=bool)
        return int((self.bytes_per_s[off] == 0).sum())


def package_matrix(graph: Graph, healthy: Graph, plane: str = AUTO, write: bool = False) -> Matrix:
    """Every package to every package over `plane`. healthy: the graph without faults, for the measured rates."""
    system = graph.system
    per = system.chip.devices_per_package
    count = system.devices // per
    places = np.unique(np.linspace(0, count - 1, min(count, MOST_PLACES)).round().astype(np.int64))
    first, last = places * per, places * per + per - 1
    pair, kinds = _classes(graph, first, last, plane)
    rates, waits = np.empty(len(kinds)), np.empty(len(kinds))
    for index, (row, column) in enumerate(kinds):
        source, target = int(first[row]), int(last[column])
        rates[index], waits[index] = _pair(graph, healthy, (source, target), (plane, write))
    return Matrix(places, rates[pair], waits[pair], len(kinds))


def _pair(graph: Graph, healthy: Graph, ends: tuple[int, int], how: tuple[str, bool]) -> tuple[float, float]:
    """Bytes/s and seconds of one pair of devices."""
    if ends[0] == ends[1]:
        return float("nan"), float("nan")
    now, before = (connect(g, *ends, how[0]) for g in (graph, healthy))
    if now.reason:
        return 0.0, float("inf")
    rate, wait = stream(graph.system, ends, before, how[1])
    return rate * now.bytes_per_s / before.bytes_per_s, wait + now.latency_s - before.latency_s


def stream(
    system: System, ends: tuple[int, int], found: Connection, write: bool = False, kinds: tuple[str, str] = DEVICES
) -> tuple[float, float]:
    """Measured bytes/s and seconds of one stream over a healthy connection; 85 % of the line rate where unmeasured.

    kinds: device or host memory at either end.
    """
    line = found.bytes_per_s * UNMEASURED_SHARE, found.latency_s
    if found.plane in ("d2d", "vpc", "host", "tcp", ""):
        return line
    per_node = system.devices_per_node
    inter = ends[0] // per_node != ends[1] // per_node
    engine = "default"
    if found.plane == "rdma":
        known = load_links(system.chip).names("transfer", 0)
        engine = next((name for name in RDMA_ENGINES if name in known), "")
        if not engine:
            return line
    elif inter and not _reaches(system, found.plane):
        return line
    path = Path(engine, inter or found.plane == "rdma", *kinds, write)
    small, large = (float(transfer_time(system, size, path).time_s) for size in (SMALL_BYTES, LARGE_BYTES))
    return min(LARGE_BYTES / large, found.bytes_per_s), max(small, found.latency_s)


def _reaches(system: System, plane: str) -> bool:
    return any(t.path == plane and t.devices > system.devices_per_node for t in system.tiers)


def _classes(graph: Graph, first: Ints, last: Ints, plane: str) -> tuple[Ints, Sequence[tuple[int, int]]]:
    """Class of every pair of places, [places, places], and a representative (row, column) of each class."""
    structures = [s for s in graph.structures if plane in (AUTO, s.plane)]
    if not all(isinstance(s, Clos) or s.plane == "d2d" for s in structures):
        size = len(first)
        every = np.arange(size * size).reshape(size, size)
        return every, [(int(i) // size, int(i) % size) for i in every.ravel()]
    out = np.array([signature(graph, structures, int(d)) for d in first])
    into = np.array([signature(graph, structures, int(d)) for d in last])
    relation = np.zeros((len(first), len(first)), np.int64)
    for tier in graph.system.tiers:
        relation = 2 * relation + (first[:, None] // tier.devices == first[None, :] // tier.devices)
    names = np.unique(np.concatenate([out, into]), return_inverse=True)[1].astype(np.int64)
    size = len(first)
    key = (names[:size, None] * (names.max() + 1) + names[None, size:]) * (relation.max() + 1) + relation
    key = np.where(np.eye(size, dtype=bool), -1 - names[:size, None], key)
    _, where, inverse = np.unique(key, return_index=True, return_inverse=True)
    return inverse.reshape(size, size), [(int(i) // size, int(i) % size) for i in where]


def signature(graph: Graph, structures: Sequence[Structure], device: int) -> str:
    """Capacities of all links that a device's traffic may take, level by level: equal for devices alike."""
    part = int(graph.device_parts[device])
    words = [str(bool(graph.part_alive[part]))]
    for structure in structures:
        if not isinstance(structure, Clos):
            partners = np.flatnonzero(graph.link_from == part)
            partners = partners[graph.link_plane[partners] == graph.planes.index(structure.plane)]
            words.append(graph.link_bytes_per_s[partners].tobytes().hex())
            continue
        low = np.array([part])
        for level in structure.levels:
            row = level.row[low]
            low = np.zeros(0, np.int64)
            if (row >= 0).all() and row.size:
                up = level.uplink[row]
                up = up[up >= 0]
                both = np.stack([graph.link_bytes_per_s[up], graph.link_bytes_per_s[up ^ 1]])
                words.append(_short(both))
                low = np.unique(graph.link_to[up])
    return "|".join(words)


def _short(values: Floats) -> str:
    """Equal arrays give equal words."""
    import hashlib

    return hashlib.blake2b(np.ascontiguousarray(values).tobytes(), digest_size=8).hexdigest()


def downsampled(values: Floats, cells: int, worst: Mapping[str, bool]) -> Floats:
    """Square matrix in `cells` blocks a side, each with its worst value (smallest, or largest when worst["high"])."""
    size = len(values)
    edges = np.linspace(0, size, min(cells, size) + 1).round().astype(int)
    filled = np.where(np.isnan(values), -np.inf if worst["high"] else np.inf, values)
    take = np.maximum if worst["high"] else np.minimum
    rows = take.reduceat(filled, edges[:-1], axis=0)
    found: Floats = take.reduceat(rows, edges[:-1], axis=1)
    return np.where(np.abs(found) == np.inf, np.where(worst["high"] & (found > 0), found, np.nan), found)
