"""What the links can carry at most between sets of devices: maximum flow, exact, on the graph folded by symmetry.

A maximum flow averaged over all relabellings that keep the graph is again one, and equal on equal links. So the flow on
the classes of a stable colouring, with the capacities of each pair of classes added up, has the same value as on the
parts (this needs only a stable colouring: fractional isomorphism, Ramana, Scheinerman and Ullman 1994).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from supertwin.core.errors import InputError
from supertwin.network.topology.colours import Colouring
from supertwin.network.topology.graph import Graph
from supertwin.network.topology.planes import Torus
from supertwin.network.topology.routes import HOST, part_of

Ints = npt.NDArray[np.int64]


def most_bytes_per_s(
    graph: Graph, sources: Sequence[int | str], targets: Sequence[int | str], planes: Sequence[str] = ()
) -> float:
    """Maximum flow from a set of devices or parts to another, over the named planes (default: all but the host's).

    Devices and processors pass nothing on, except along a torus. Raises InputError when the sets meet, UnknownName.
    """
    ends = [np.unique([part_of(graph, end) for end in side]).astype(np.int64) for side in (sources, targets)]
    if np.intersect1d(ends[0], ends[1]).size or not ends[0].size or not ends[1].size:
        raise InputError("expected two sets of devices without common members")
    named = [graph.structure(plane).plane for plane in planes] or [p for p in graph.planes if p != HOST]
    links = usable_links(graph, ends[0], ends[1], named)
    colour = Colouring(graph, (), named).told_apart([ends[0].astype(np.int32), ends[1].astype(np.int32)])
    names, group = np.unique(colour[: len(graph.parts)], return_inverse=True)
    start, end = group[graph.link_from[links]], group[graph.link_to[links]]
    keep = start != end
    pairs, place = np.unique(start[keep] * len(names) + end[keep], return_inverse=True)
    rate = np.bincount(place.ravel(), graph.link_bytes_per_s[links][keep], len(pairs))
    arcs = {(int(p) // len(names), int(p) % len(names)): float(r) for p, r in zip(pairs, rate, strict=True)}
    return _maximum_flow(arcs, *(sorted(set(group[side].tolist())) for side in ends))


def usable_links(graph: Graph, sources: Ints, targets: Ints, planes: Sequence[str]) -> Ints:
    """Links that a flow between the sets may take: endpoints that are in neither set pass nothing on."""
    ends = np.isin(graph.part_kind, [graph.kinds.index(k) for k in ("device", "cpu") if k in graph.kinds])
    outward, inward = ends.copy(), ends.copy()
    outward[sources], inward[targets] = False, False
    shut = outward[graph.link_from] | inward[graph.link_to]
    tori = [graph.planes.index(s.plane) for s in graph.structures if isinstance(s, Torus) and s.plane in graph.planes]
    shut &= ~np.isin(graph.link_plane, tori)
    here = np.isin(graph.link_plane, [graph.planes.index(p) for p in planes if p in graph.planes])
    return np.flatnonzero(here & ~shut & (graph.link_bytes_per_s > 0)).astype(np.int64)


def halves(graph: Graph) -> tuple[list[int], list[int]]:
    """Devices in use in two halves of whole nodes (of devices, when there is one node), lost devices left out."""
    system = graph.system
    middle = system.nodes // 2 * system.devices_per_node or graph.devices // 2
    alive = np.flatnonzero(graph.part_alive[graph.device_parts])
    return alive[alive < middle].tolist(), alive[alive >= middle].tolist()


def bisection_bytes_per_s(graph: Graph, planes: Sequence[str] = ()) -> float:
    """Maximum flow from the first half of the devices to the second one; 0 when a half is empty."""
    first, second = halves(graph)
    return most_bytes_per_s(graph, first, second, planes) if first and second else 0.0


def _maximum_flow(arcs: dict[tuple[int, int], float], sources: list[int], targets: list[int]) -> float:
    """Edmonds and Karp 1972 on the few folded arcs."""
    room: dict[int, dict[int, float]] = {}
    for (start, end), rate in arcs.items():
        room.setdefault(start, {})[end] = rate
        room.setdefault(end, {}).setdefault(start, 0.0)
    total, least = 0.0, 1e-9 * max(arcs.values(), default=0.0)
    goal = set(targets)
    while True:
        came: dict[int, int] = dict.fromkeys(sources, -1)
        front, last = deque(sources), -1
        while front and last < 0:
            at = front.popleft()
            for end, free in room.get(at, {}).items():
                if end not in came and free > least:
                    came[end] = at
                    front.append(end)
                    if end in goal:
                        last = end
                        break
        if last < 0:
            return total
        way = [last]
        while came[way[-1]] >= 0:
            way.append(came[way[-1]])
        steps = list(zip(way[1:], way, strict=False))
        least_free = min(room[a][b] for a, b in steps)
        for a, b in steps:
            room[a][b] -= least_free
            room[b][a] += least_free
        total += least_free
