"""What a fabric is made of: parts by kind, bundles of equal links, groups of parts as pictures show them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from supertwin.network.topology import Graph

_LAST_NUMBER = re.compile(r"-\d+$")
INSIDE = ("d2d", "host")  # planes inside a package or a host: not a network that traffic can be sent through


def plane_choices(graph: Graph) -> list[str]:
    """Planes that traffic between devices can be sent through."""
    return [plane for plane in graph.planes if plane not in INSIDE] or list(graph.planes)


def part_rows(graph: Graph) -> list[dict[str, Any]]:
    """How many parts of each kind there are."""
    counts = np.bincount(graph.part_kind, minlength=len(graph.kinds))
    return [{"kind": kind, "count": int(count)} for kind, count in zip(graph.kinds, counts, strict=True) if count]


def link_rows(graph: Graph) -> list[dict[str, Any]]:
    """Links between two kinds of parts on one plane, low to high (one direction), with their sums."""
    kind_from, kind_to = graph.part_kind[graph.link_from], graph.part_kind[graph.link_to]
    one_way = np.arange(graph.link_from.size) % 2 == 0  # links come in pairs, there and back
    keys = np.stack([graph.link_plane, kind_from, kind_to, graph.link_optical], axis=1)[one_way]
    each = graph.link_bytes_per_s[one_way]
    count, latency = graph.link_count[one_way], graph.link_latency_s[one_way]
    rows = []
    for key in np.unique(keys, axis=0):
        mine = (keys == key).all(axis=1)
        links = int(count[mine].sum())
        rows.append(
            {
                "plane": graph.planes[key[0]],
                "from": graph.kinds[key[1]],
                "to": graph.kinds[key[2]],
                "links": links,
                "bytes_per_s_each": float(np.median(each[mine] / np.maximum(count[mine], 1))),
                "bytes_per_s": float(each[mine].sum()),
                "latency_s": float(np.median(latency[mine])),
                "optical": bool(key[3]),
            }
        )
    return rows


def group_of(address: str) -> str:
    """Shared parts of one sub-plane or rail: the address without its last number."""
    return _LAST_NUMBER.sub("", address)
