"""How two devices lie to each other: what colour refinement over single parts cannot see.

Refinement looks at one part and its neighbours; that two neighbours of a part are neighbours of each other escapes it.
So arcs and group members carry what they know about the other end: at which level of which plane the two meet.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from supertwin.network.topology.graph import Graph
from supertwin.network.topology.patterns import Pattern
from supertwin.network.topology.planes import Clos, Mesh, Torus

MOST_PAIRS = 4_000_000
Hashes = npt.NDArray[np.uint64]
ODD = np.uint64(0x9E3779B97F4A7C15)
SCRAMBLE = np.uint64(0xBF58476D1CE4E5B9)


def mix(values: Hashes) -> Hashes:
    """Scrambles 64 bits (the finaliser of splitmix64)."""
    found = (values ^ (values >> np.uint64(30))) * SCRAMBLE
    found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return found ^ (found >> np.uint64(31))


class Relations:
    """Blocks that devices share, level by level of the planes in use, and their places on a torus.

    signed: up and down an axis differ. A mirrored torus is the same torus, but a mirrored pattern need not be the same.
    """

    def __init__(self, graph: Graph, planes: Sequence[str], signed: bool) -> None:
        self.signed = signed
        self.homes: list[npt.NDArray[np.int64]] = []
        self.tori: list[tuple[tuple[int, ...], npt.NDArray[np.int64]]] = []
        for structure in (s for s in graph.structures if s.plane in planes):
            if isinstance(structure, Clos):
                self.homes += _climb(graph, structure)
            elif isinstance(structure, Mesh):
                self.homes.append(np.arange(graph.devices) // structure.link_to_member.shape[1])
            elif isinstance(structure, Torus):
                self.homes.append(structure.first.astype(np.int64))
                self.tori.append((structure.sides, np.arange(graph.devices) - structure.first))

    def between(self, one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> Hashes:
        """Label of the relation of devices, broadcast."""
        label = np.zeros(np.broadcast(one, other).shape, np.uint64)
        for home in self.homes:
            label = label * np.uint64(2) + (home[one] == home[other]).astype(np.uint64)
        for sides, place in self.tori:
            here, there = place[one], place[other]
            for side in sides:
                ahead = (there - here) % side
                offset = ahead if self.signed else np.minimum(ahead, side - ahead)
                label = label * np.uint64(side + 1) + offset.astype(np.uint64)
                here, there = here // side, there // side
        return mix(label * ODD + np.uint64(1))

    def within(self, ranks: npt.NDArray[np.int64]) -> Hashes:
        """What each member of a group sees of the other ones, order aside, [ranks]."""
        if len(ranks) ** 2 <= MOST_PAIRS and (self.tori or len(ranks) <= 256):
            return mix(self.between(ranks[:, None], ranks[None, :]).sum(axis=1, dtype=np.uint64))
        label = np.zeros(len(ranks), np.uint64)
        for home in self.homes:
            _, place, count = np.unique(home[ranks], return_inverse=True, return_counts=True)
            label = mix(label * SCRAMBLE + count[place.ravel()].astype(np.uint64))
        return label


def direct_links(graph: Graph, patterns: Sequence[Pattern], signed: bool) -> Hashes:
    """What links between two devices know of the patterns: an arc along them, both ends in one group; the direction
    along a torus. 0 for links to switches, [links].
    """
    device = np.full(len(graph.parts), -1, np.int64)
    device[graph.device_parts] = np.arange(graph.devices)
    one, other = device[graph.link_from], device[graph.link_to]
    links = np.flatnonzero((one >= 0) & (other >= 0))
    one, other = one[links], other[links]
    found, label = np.zeros(len(graph.link_from), np.uint64), np.zeros(len(links), np.uint64)
    for number, pattern in enumerate(patterns):
        marks = mix(np.arange(2, dtype=np.uint64) + np.uint64(2 * number + 1))
        arcs, count = np.unique(pattern.source * graph.devices + pattern.target, return_counts=True)
        if len(arcs):
            place = np.minimum(np.searchsorted(arcs, one * graph.devices + other), len(arcs) - 1)
            hit = arcs[place] == one * graph.devices + other
            label += np.where(hit, count[place], 0).astype(np.uint64) * marks[0]
        for ranks in pattern.groups if len(links) else ():
            member = np.zeros(graph.devices, bool)
            member[ranks] = True
            label += (member[one] & member[other]).astype(np.uint64) * marks[1]
    found[links] = mix(label + ODD)
    for structure in graph.structures:
        if signed and isinstance(structure, Torus):
            down = structure.link[:, :, 1]
            found[down[down >= 0]] ^= SCRAMBLE
    return found


def _climb(graph: Graph, structure: Clos) -> list[npt.NDArray[np.int64]]:
    """Part above each device at every level of a tree, first column; -1 - device where the device is not below it."""
    at = graph.device_parts.astype(np.int64)
    homes = []
    for level in structure.levels:
        row = np.where(at >= 0, level.row[at], -1)
        up = np.where(row >= 0, level.uplink[row, 0], -1)
        at = np.where(up >= 0, graph.link_to[up], -1).astype(np.int64)
        homes.append(np.where(at >= 0, at, -1 - np.arange(graph.devices)))
    return homes
