"""Shortest of the widest paths over the links of a torus: the way around a fault."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from supertwin.network.topology.graph import Graph
from supertwin.network.topology.planes import Torus

Numbers: TypeAlias = npt.NDArray[np.integer[Any]]


def widest_way(graph: Graph, structure: Torus, source: int, target: int) -> list[int]:
    """Links of the shortest path among those whose narrowest link is widest; empty when there is none."""
    links = structure.link.reshape(len(structure.link), -1)
    width = np.where(links >= 0, graph.link_bytes_per_s[links], 0.0)
    ends = structure.device_of_part[graph.link_to[links]]
    for least in np.unique(width[width > 0])[::-1]:
        way = _breadth_first(np.where(width >= least, ends, -1), links, source, target)
        if way:
            return way
    return []


def _breadth_first(ends: Numbers, links: Numbers, source: int, target: int) -> list[int]:
    """ends: device at the other end of each link or -1 when it may not be used, [devices, links per device]."""
    came = np.full((len(ends), 2), -1, np.int64)  # link and device that a device was reached from
    front = np.array([source])
    seen = np.zeros(len(ends), bool)
    seen[source] = True
    while len(front) and not seen[target]:
        reached = ends[front]
        row, column = np.nonzero((reached >= 0) & ~seen[reached])
        fresh, first = np.unique(reached[row, column], return_index=True)
        came[fresh, 0] = links[front[row[first]], column[first]]
        came[fresh, 1] = front[row[first]]
        seen[fresh] = True
        front = fresh
    way: list[int] = []
    at = target
    while seen[target] and at != source:
        way.append(int(came[at, 0]))
        at = int(came[at, 1])
    return way[::-1]
