"""What an address stands for: parts, links, or some of the parallel links behind a transceiver."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from supertwin.core.errors import UnknownName
from supertwin.network.topology.checks import links_per_module
from supertwin.network.topology.graph import Graph

Ints = npt.NDArray[np.int64]
MOST_NAMES = 4000  # names that are searched for near ones


def find(graph: Graph, target: str) -> tuple[Ints, Ints, npt.NDArray[np.float64]]:
    """(parts, links, share of each link that the target leaves alone) behind an address. Raises UnknownName."""
    nothing = np.zeros(0, np.int64)
    if re.search(r"--|->", target):
        links = _links(graph, target)
        return nothing, links, np.zeros(len(links))
    if target in graph.planes:
        links = np.flatnonzero(graph.link_plane == graph.planes.index(target))
        return nothing, links, np.zeros(len(links))
    parts = _parts(graph, target)
    if len(parts):
        return parts, nothing, np.zeros(0)
    module = re.fullmatch(r"(.+)/optics-(\d+)", target)
    if module:
        links, kept = _module(graph, module[1], int(module[2]))
        if len(links):
            return nothing, links, kept
    raise _unknown(graph, target)


def modules(graph: Graph, switch: str) -> int:
    """Optical modules that a part holds: its optical ports over the links of one module. Raises UnknownName."""
    return -(-len(_ports(graph, graph.part(switch))) // links_per_module(graph))


def _parts(graph: Graph, target: str) -> Ints:
    """Parts with the address, below it, of the sub-plane, or matching the pattern."""
    below = target + "/"
    found = [i for i, name in enumerate(graph.parts) if name == target or name.startswith(below)]
    sub_plane = re.fullmatch(r"(?:(.+)/)?([a-z]+)-(\d+)", target)
    if not found and sub_plane:
        home, plane, number = sub_plane.groups()
        start = f"{re.escape(home)}/" if home else r"(?:.+/)?"
        rule = re.compile(rf"{start}{plane}-(?:l1-{number}|l2-{number}-\d+)")
        found = [i for i, name in enumerate(graph.parts) if rule.fullmatch(name)]
    if not found and re.search(r"[*?\[]", target):
        rule = re.compile(fnmatch.translate(target))
        found = [i for i, name in enumerate(graph.parts) if rule.match(name)]
        heads = _heads(graph, rule)
        found += [i for i, name in enumerate(graph.parts) if not heads.isdisjoint(_above(name))]
    return np.unique(found).astype(np.int64)


def _above(name: str) -> list[str]:
    """Addresses above one: node3 and node3/npu5 for node3/npu5/die1."""
    words = name.split("/")
    return ["/".join(words[:depth]) for depth in range(1, len(words))]


def _heads(graph: Graph, rule: re.Pattern[str]) -> set[str]:
    """Addresses of nodes, packages and so on that match a pattern; everything below them goes with them."""
    heads = {head for name in graph.parts for head in _above(name)}
    return {head for head in heads if rule.match(head)}


def _links(graph: Graph, target: str) -> Ints:
    first, arrow, second = re.split(r"(--|->)", target, maxsplit=1)
    ends = []
    for name in (first, second):
        parts = _parts(graph, name)
        if not len(parts):
            raise _unknown(graph, name)
        mask = np.zeros(len(graph.parts), bool)
        mask[parts] = True
        ends.append(mask)
    there = ends[0][graph.link_from] & ends[1][graph.link_to]
    if arrow == "--":
        there |= ends[1][graph.link_from] & ends[0][graph.link_to]
    if not there.any():
        near = graph.link_to[ends[0][graph.link_from]]
        raise UnknownName("link", target, [f"{first}{arrow}{graph.parts[i]}" for i in near[:MOST_NAMES]])
    return np.flatnonzero(there).astype(np.int64)


def _ports(graph: Graph, part: int) -> Ints:
    """Outgoing optical links of a part in order, one entry per physical link."""
    out = np.flatnonzero((graph.link_from == part) & graph.link_optical)
    return np.repeat(out, graph.link_count[out]).astype(np.int64)


def _module(graph: Graph, switch: str, number: int) -> tuple[Ints, npt.NDArray[np.float64]]:
    if switch not in graph.parts:
        raise _unknown(graph, switch)
    each = links_per_module(graph)
    ports = _ports(graph, graph.part(switch))[number * each : (number + 1) * each]
    links, lost = np.unique(ports, return_counts=True)
    kept = 1.0 - lost / graph.link_count[links]
    return np.concatenate([links, links ^ 1]), np.concatenate([kept, kept])


def _unknown(graph: Graph, target: str) -> UnknownName:
    head = target.partition("/")[0]
    names: Sequence[str] = [name for name in graph.parts if name.partition("/")[0] == head]
    if not names:
        heads = dict.fromkeys(name.partition("/")[0] for name in graph.parts)
        names = [*heads, *graph.planes]
    return UnknownName(f"part of {graph.system.name}", target, names[:MOST_NAMES])
