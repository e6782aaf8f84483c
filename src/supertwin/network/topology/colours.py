"""Colour refinement: parts that nothing tells apart get the same colour.

A colour is a 64-bit hash of the part and, round by round, of the multiset of its neighbours' colours and edge labels
(Weisfeiler-Leman). Sums of mixed hashes stand for multisets; a collision among 1e5 colours has odds of about 1e-9.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from supertwin.network.topology.graph import Graph
from supertwin.network.topology.patterns import Pattern, Ranks
from supertwin.network.topology.planes import Ids
from supertwin.network.topology.relations import ODD, SCRAMBLE, Hashes, Relations, direct_links, mix


class Colouring:
    """The coloured graph: parts, one vertex per group of a pattern, links of the planes in use, arcs of patterns."""

    def __init__(self, graph: Graph, patterns: Sequence[Pattern], planes: Sequence[str]) -> None:
        self.graph = graph
        used = np.isin(graph.link_plane, [graph.planes.index(p) for p in planes if p in graph.planes])
        links = np.flatnonzero(used)
        signed = any(pattern.flows < graph.devices * (graph.devices - 1) for pattern in patterns)
        self.link_label = mix(_labels(graph) + direct_links(graph, patterns, signed))
        edges = [(graph.link_from[links], graph.link_to[links], self.link_label[links])]
        count = len(graph.parts)
        relations = Relations(graph, planes, signed)
        for number, pattern in enumerate(patterns):
            label = mix(np.array([number + 1], np.uint64) * ODD)
            for ranks, level in _circles(pattern):
                members = graph.device_parts[ranks]
                hub = np.full(len(members), count, np.int32)
                count += 1
                marks = mix(relations.within(ranks) * ODD + label + np.uint64(level))
                edges += [(members, hub, marks), (hub, members, marks)]
            ends = graph.device_parts[pattern.source], graph.device_parts[pattern.target]
            arcs = mix(relations.between(pattern.source, pattern.target) * ODD + label)
            edges += [(ends[0], ends[1], arcs), (ends[1], ends[0], mix(arcs))]
        start, end, label = (np.concatenate(column) for column in zip(*edges, strict=True))
        order = np.argsort(end, kind="stable")
        self._from, self._label = start[order], label[order]
        self._ends, self._first = np.unique(end[order], return_index=True)
        first = np.zeros(count, np.uint64)
        first[: len(graph.parts)] = graph.part_kind.astype(np.uint64) * np.uint64(2) + graph.part_alive.astype(
            np.uint64
        )
        first[: len(graph.parts)] += mix(graph.part_mark)
        first[len(graph.parts) :] = np.uint64(1 << 20)
        self.stable = self.refine(mix(first * ODD))

    def apart(self, part: int) -> Hashes:
        """Colours once a part is told apart from all others."""
        marked = self.stable.copy()
        marked[part] = mix(marked[part : part + 1] + ODD)[0]
        return self.refine(marked)

    def told_apart(self, sets: Sequence[Ids]) -> Hashes:
        """Colours once every set of parts is told apart from the rest; the members of a set stay equal."""
        marked = self.stable.copy()
        for number, parts in enumerate(sets):
            marked[parts] = mix(marked[parts] + mix(np.array([number + 2], np.uint64)))
        return self.refine(marked)

    def refine(self, colour: Hashes) -> Hashes:
        """Rounds until the number of colours stays the same."""
        number = len(np.unique(colour))
        while len(self._from):
            sums = np.add.reduceat(mix(colour[self._from] * ODD ^ self._label), self._first)
            colour = mix(colour * SCRAMBLE)
            colour[self._ends] += mix(sums)
            found = len(np.unique(colour))
            if found == number:
                break
            number = found
        return colour

    def link_classes(self) -> Hashes:
        """Colour of every link: its ends and its label, [links]."""
        graph = self.graph
        ends = mix(self.stable[graph.link_from] * ODD) + self.stable[graph.link_to]
        return mix(ends ^ self.link_label)


def _circles(pattern: Pattern) -> Iterator[tuple[Ranks, int]]:
    """Groups of a pattern (level 0) and the blocks of neighbours in them that it tells apart (levels 1 and 2)."""
    for group in pattern.groups:
        yield group, 0
        for level, size in ((1, pattern.inner), (2, pattern.outer)):
            if size > 1:
                block = group // size
                yield from ((group[block == number], level) for number in np.unique(block))


def _labels(graph: Graph) -> Hashes:
    """What a link is: its capacity and that of the way back, its plane and role."""
    rate = graph.link_bytes_per_s.view(np.uint64)
    kind = graph.link_plane.astype(np.uint64) * np.uint64(64) + graph.link_role.astype(np.uint64)
    back = np.arange(len(rate)) ^ 1
    return mix(rate * ODD + mix(rate[back]) + mix(kind * SCRAMBLE))
