"""How two devices lie to each other: what colour refinement over single parts cannot see.

Refinement looks at one part and its neighbours; that two neighbours of a part are neighbours of each other escapes it.
So arcs and group members carry what they know about the other end: at which level of which plane the two meet.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from supertwin.network.topology.graph import Graph
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
    """Blocks that devices share, level by level of the planes in use, and their places on a torus."""

    def __init__(self, graph: Graph, planes: Sequence[str]) -> None:
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
                label = label * np.uint64(side + 1) + np.minimum(ahead, side - ahead).astype(np.uint64)
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
