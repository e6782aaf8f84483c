"""Minimal multipath routes with a fixed split, and what they make of a connection.

tree of switches   every path up to the lowest common level and down again; weight = product over levels of the
                   narrower of the two up links (weighted-cost multipath, Zhou et al., EuroSys 2014): equal among
                   healthy equals, continuous from a degraded link to a removed one
mesh               the direct link
torus              dimension order, first axis first; half-way round an axis both ways; around a degraded or
                   removed link the shortest of the widest paths
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from supertwin.core.errors import InputError
from supertwin.network.topology.graph import Graph
from supertwin.network.topology.planes import Clos, Mesh, Structure, Torus
from supertwin.network.topology.ways import widest_way

AUTO = "auto"
HOST = "host"


class Route(NamedTuple):
    """Links in order from source to target, and the share of the flow that takes them."""

    links: tuple[int, ...]
    share: float


class Paths(NamedTuple):
    """Paths of one pair: link ids [paths, hops] and share [paths]; empty when there is none."""

    links: npt.NDArray[np.int64]
    share: npt.NDArray[np.float64]


NONE = Paths(np.zeros((0, 0), np.int64), np.zeros(0))


@dataclass(frozen=True, slots=True)
class Connection:
    """What one flow between two parts gets when nothing else runs.

    bytes_per_s: line rate with the fixed split; latency_s: end to end of a small message over the longest path;
    plane "" and a reason when the parts are cut off from each other.
    """

    source: str
    target: str
    plane: str
    paths: int
    hops: int
    bytes_per_s: float
    latency_s: float
    reason: str = ""


def routes(graph: Graph, source: int | str, target: int | str, plane: str = AUTO) -> list[Route]:
    """Routes between two devices (numbers) or parts (addresses); empty when cut off (`connect` says why).

    Raises InputError (device number out of range), UnknownName (address or plane).
    """
    _, found = _find(graph, part_of(graph, source), part_of(graph, target), plane)
    return [Route(tuple(row), share) for row, share in zip(found.links.tolist(), found.share.tolist(), strict=True)]


def connect(graph: Graph, source: int | str, target: int | str, plane: str = AUTO) -> Connection:
    """The connection of two devices (numbers) or parts (addresses). Raises as `routes`."""
    ends = part_of(graph, source), part_of(graph, target)
    name, found = _find(graph, *ends, plane)
    here, there = graph.parts[ends[0]], graph.parts[ends[1]]
    if not len(found.share):
        return Connection(here, there, "", 0, 0, 0.0, float("inf"), _reason(graph, ends, plane))
    paths, hops = found.links.shape
    return Connection(here, there, name, paths, hops, pair_bytes_per_s(graph, found), path_latency_s(graph, found))


def part_of(graph: Graph, end: int | str) -> int:
    """Part id of a device number or an address. Raises InputError, UnknownName."""
    if isinstance(end, str):
        return graph.part(end)
    if not 0 <= end < graph.devices:
        raise InputError(f"device {end} of {graph.system.name}: expected 0 to {graph.devices - 1}")
    return int(graph.device_parts[end])


def best_paths(graph: Graph, source: int, target: int, plane: str = AUTO) -> Paths:
    """As `routes`, between part ids and as arrays."""
    return _find(graph, source, target, plane)[1]


def pair_bytes_per_s(graph: Graph, found: Paths) -> float:
    """Rate of one flow that has its paths alone: the narrowest link over the share it carries."""
    if not found.links.size:
        return 0.0
    links, share = link_shares(found)
    return float((graph.link_bytes_per_s[links] / share).min())


def path_latency_s(graph: Graph, found: Paths) -> float:
    """End to end time of a small message over the longest of the paths."""
    return float(graph.link_latency_s[found.links].sum(axis=1).max())


def link_shares(found: Paths) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Links of a pair and the share of the flow on each."""
    links, place = np.unique(found.links, return_inverse=True)
    share = np.bincount(place.ravel(), np.repeat(found.share, found.links.shape[1]), len(links))
    return links, share.astype(np.float64)


def _find(graph: Graph, source: int, target: int, plane: str) -> tuple[str, Paths]:
    """The widest plane, ties to the innermost; host memory only when it is named or an end is a processor."""
    if source == target:
        return "", NONE
    if not (graph.part_alive[source] and graph.part_alive[target]):
        return "", NONE
    if plane != AUTO:
        return plane, paths_in(graph, graph.structure(plane), source, target)
    best, name, rate = NONE, "", 0.0
    through_host = "cpu" in (graph.kind_of(source), graph.kind_of(target))
    for structure in graph.structures:
        if structure.line_rate <= rate or (structure.plane == HOST and not through_host):
            continue
        found = paths_in(graph, structure, source, target)
        wide = pair_bytes_per_s(graph, found)
        if wide > rate:
            best, name, rate = found, structure.plane, wide
    return name, best


def _reason(graph: Graph, ends: tuple[int, int], plane: str) -> str:
    lost = [graph.parts[end] for end in ends if not graph.part_alive[end]]
    if lost:
        return f"{' and '.join(dict.fromkeys(lost))} removed"
    if ends[0] == ends[1]:
        return "source and target are the same part"
    where = "any plane" if plane == AUTO else f"plane {plane}"
    after = f" after {', '.join(graph.faults)}" if graph.faults else ""
    return f"no path from {graph.parts[ends[0]]} to {graph.parts[ends[1]]} in {where}{after}"


def paths_in(graph: Graph, structure: Structure, source: int, target: int) -> Paths:
    """Paths between two parts within one plane."""
    if isinstance(structure, Clos):
        return _through_tree(graph, structure, source, target)
    ends = structure.device_of_part[[source, target]]
    if (ends < 0).any():
        return NONE
    if isinstance(structure, Mesh):
        return _direct(graph, structure, int(ends[0]), int(ends[1]))
    return _around(graph, structure, int(ends[0]), int(ends[1]))


def _through_tree(graph: Graph, structure: Clos, source: int, target: int) -> Paths:
    """Climb from both ends at once, column by column, until the two sides meet."""
    low, high = np.array([source]), np.array([target])
    ups, downs = np.zeros((1, 0), np.int64), np.zeros((1, 0), np.int64)
    weight = np.ones(1)
    capacity = graph.link_bytes_per_s
    for level in structure.levels:
        rows = level.row[low], level.row[high]
        if (rows[0] < 0).any() or (rows[1] < 0).any():
            break
        up, back = level.uplink[rows[0]], level.uplink[rows[1]]
        width = np.minimum(capacity[up], capacity[back ^ 1])
        alive = (up >= 0) & (back >= 0) & (width > 0)
        above = graph.link_to[up], graph.link_to[back]
        before, column = np.nonzero(alive)
        if not len(before):
            break
        up, back = up[before, column], back[before, column]
        low, high = above[0][before, column], above[1][before, column]
        ups = np.column_stack([ups[before], up])
        downs = np.column_stack([back ^ 1, downs[before]])
        weight = weight[before] * width[before, column]
        weight /= weight.max()
        meet = low == high
        if meet.any():
            share = weight[meet] / weight[meet].sum()
            return Paths(np.column_stack([ups[meet], downs[meet]]).astype(np.int64), share)
    return _to_switch(graph, structure, source, target)


def _to_switch(graph: Graph, structure: Clos, source: int, target: int) -> Paths:
    """One hop between an endpoint and the part right above it (device and host processor, device and adapter)."""
    for ends, turn in (((source, target), 0), ((target, source), 1)):
        for level in structure.levels[:1]:
            row = int(level.row[ends[0]])
            if row < 0:
                continue
            up = level.uplink[row]
            hit = up[(up >= 0) & (graph.link_to[up] == ends[1])] ^ turn
            hit = hit[graph.link_bytes_per_s[hit] > 0]
            if len(hit):
                return Paths(hit.reshape(-1, 1).astype(np.int64), np.full(len(hit), 1.0 / len(hit)))
    return NONE


def _direct(graph: Graph, structure: Mesh, source: int, target: int) -> Paths:
    size = structure.link_to_member.shape[1]
    if source // size != target // size:
        return NONE
    link = int(structure.link_to_member[source, target % size])
    if link < 0 or graph.link_bytes_per_s[link] <= 0:
        return NONE
    return Paths(np.array([[link]], np.int64), np.ones(1))


def _around(graph: Graph, structure: Torus, source: int, target: int) -> Paths:
    if structure.first[source] != structure.first[target]:
        return NONE
    found = np.array(dimension_order(structure, source, target), np.int64)
    if found.size and (found >= 0).all() and graph.link_bytes_per_s[found].min() >= structure.link_rate:
        return Paths(found, np.full(len(found), 1.0 / len(found)))
    way = widest_way(graph, structure, source, target)
    return Paths(np.array([way], np.int64), np.ones(1)) if way else NONE


def dimension_order(structure: Torus, source: int, target: int) -> list[list[int]]:
    """Paths of equal length, first axis first; an axis crossed exactly half-way round gives both ways."""
    first = int(structure.first[source])
    here, there, steps = source - first, target - first, []
    for axis, side in enumerate(structure.sides):
        ahead = (there - here) % side
        here, there = here // side, there // side
        if ahead == 0:
            continue
        ways = [(axis, 0, ahead)] if 2 * ahead <= side else [(axis, 1, side - ahead)]
        if 2 * ahead == side and side > 2:
            ways.append((axis, 1, ahead))
        steps.append(ways)
    return [_walk(structure, source, way) for way in itertools.product(*steps)]


def _walk(structure: Torus, source: int, way: tuple[tuple[int, int, int], ...]) -> list[int]:
    links, at, first = [], source, int(structure.first[source])
    strides = np.cumprod((1, *structure.sides))
    for axis, turn, hops in way:
        side, stride = structure.sides[axis], int(strides[axis])
        for _ in range(hops):
            links.append(int(structure.link[at, axis, turn]))
            place = (at - first) // stride % side
            at += ((place + (1 if turn == 0 else -1)) % side - place) * stride
    return links


__all__ = ["Connection", "Paths", "Route", "best_paths", "connect", "link_shares", "routes"]
