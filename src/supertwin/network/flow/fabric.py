"""Patterns of a schedule as flow classes on the links of a graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from supertwin.network.flow.classes import FlowClasses
from supertwin.network.flow.condense import Incidence, condense, usage
from supertwin.network.flow.pattern import AllPairs, Floats, Ints, Pairs, Pattern
from supertwin.network.topology.graph import Graph
from supertwin.network.topology.routes import best_paths, link_shares


def flows(graph: Graph, patterns: Sequence[Pattern], faults: Sequence[str] = ()) -> tuple[FlowClasses, Ints]:
    """Joint flow classes of several patterns, and the pattern that each class belongs to.

    Link classes are common to all patterns, so that patterns that run together share their links.
    """
    listed = [pattern.listed() if isinstance(pattern, AllPairs) else pattern for pattern in patterns]
    return _listed(graph, listed)


def _listed(graph: Graph, listed: Sequence[Pairs]) -> tuple[FlowClasses, Ints]:
    owner = np.repeat(np.arange(len(listed)), [pairs.source.size for pairs in listed])
    source = np.concatenate([np.zeros(0, np.int64), *(pairs.source for pairs in listed)])
    target = np.concatenate([np.zeros(0, np.int64), *(pairs.target for pairs in listed)])
    size = np.concatenate([np.zeros(0), *(pairs.bytes_each for pairs in listed)])
    pair, which = np.unique(source * graph.devices + target, return_inverse=True)
    incidence, latency, routed = _routes(graph, pair // graph.devices, pair % graph.devices)
    # the same pair in several patterns has the same links: its entries are repeated per flow
    order = np.argsort(incidence.flow, kind="stable")
    count = np.bincount(incidence.flow, minlength=pair.size)
    first = np.r_[0, np.cumsum(count)[:-1]] if pair.size else np.zeros(0, np.int64)
    length = count[which]
    flow = np.repeat(np.arange(which.size), length)
    place = np.arange(flow.size) - np.repeat(np.cumsum(length) - length, length) + np.repeat(first[which], length)
    used, link = np.unique(incidence.link[order][place], return_inverse=True)
    entries = Incidence(flow, link, incidence.share[order][place])
    capacity = graph.link_bytes_per_s[used]
    key = np.stack([owner.astype(np.float64), size, latency[which], routed[which]], axis=1)
    found = condense(entries, key, capacity)
    return _classes(graph, listed, (owner, size, latency[which], routed[which]), (used, found), usage(entries, found))


def _classes(
    graph: Graph, listed: Sequence[Pairs], columns: tuple[Ints, Floats, Floats, Floats], found: tuple, table: Floats
) -> tuple[FlowClasses, Ints]:
    owner, size, latency, routed = columns
    used, partition = found
    _, one, flows_each = np.unique(partition.flow, return_index=True, return_counts=True)
    _, link, links_each = np.unique(partition.link, return_index=True, return_counts=True)
    names = [f"{graph.parts[graph.link_from[i]]} -> {graph.parts[graph.link_to[i]]}" for i in used[link].tolist()]
    return FlowClasses(
        names=tuple(listed[i].name for i in owner[one].tolist()),
        flows=flows_each.astype(np.float64),
        bytes_each=size[one],
        usage=table,
        capacity_bytes_per_s=graph.link_bytes_per_s[used[link]],
        links=links_each.astype(np.float64),
        limit_bytes_per_s=np.where(routed[one] > 0, np.inf, 0.0),
        priority=np.zeros(one.size, np.int64),
        start_s=np.zeros(one.size),
        latency_s=np.zeros(one.size),
        link_names=tuple(names),
    ), owner[one]


def _routes(graph: Graph, source: Ints, target: Ints) -> tuple[Incidence, Floats, Floats]:
    flow, link, share = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    latency, routed = np.zeros(source.size), np.zeros(source.size)
    ends = graph.device_parts
    for index in range(source.size):
        paths = best_paths(graph, int(ends[source[index]]), int(ends[target[index]]))
        if not paths.share.size:
            continue
        links, shares = link_shares(paths)
        flow.append(np.full(links.size, index))
        link.append(links)
        share.append(shares)
        latency[index] = graph.link_latency_s[paths.links].sum(axis=1).max()
        routed[index] = 1.0
    return Incidence(np.concatenate(flow), np.concatenate(link), np.concatenate(share)), latency, routed
