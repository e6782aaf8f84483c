"""The graph for other programs: networkx and GraphML."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from supertwin.core.errors import MissingExtra
from supertwin.network.topology.graph import Graph

if TYPE_CHECKING:
    import networkx


def to_networkx(graph: Graph) -> networkx.DiGraph[str]:
    """A directed graph with parts by address and the links that are left; lost parts stay as lone nodes.

    Node attributes: kind, node, alive. Edge attributes: capacity (bytes/s), latency_s, plane, optical, count; parallel
    planes between the same parts add up in capacity and count. Raises MissingExtra without networkx.
    """
    try:
        import networkx
    except ImportError:
        raise MissingExtra("networkx", "dev") from None
    found: networkx.DiGraph[str] = networkx.DiGraph(name=graph.system.name, faults=", ".join(graph.faults))
    kinds, nodes, alive = graph.part_kind.tolist(), graph.part_node.tolist(), graph.part_alive.tolist()
    for part, name in enumerate(graph.parts):
        found.add_node(name, kind=graph.kinds[kinds[part]], node=nodes[part], alive=alive[part])
    for start, end, values in _edges(graph):
        if found.has_edge(start, end):
            same = found[start][end]
            same["capacity"] += values["capacity"]
            same["count"] += values["count"]
        else:
            found.add_edge(start, end, **values)
    return found


def write_graphml(graph: Graph, path: str | Path) -> None:
    """A GraphML file for Gephi, yEd or Cytoscape. Raises MissingExtra without networkx."""
    found = to_networkx(graph)
    import networkx

    networkx.write_graphml_xml(found, str(path))


def _edges(graph: Graph) -> list[tuple[str, str, dict[str, Any]]]:
    columns = (
        graph.link_from.tolist(),
        graph.link_to.tolist(),
        graph.link_bytes_per_s.tolist(),
        graph.link_latency_s.tolist(),
        graph.link_plane.tolist(),
        graph.link_optical.tolist(),
        graph.link_count.tolist(),
    )
    return [
        (
            graph.parts[start],
            graph.parts[end],
            {"capacity": rate, "latency_s": late, "plane": graph.planes[plane], "optical": optical, "count": count},
        )
        for start, end, rate, late, plane, optical, count in zip(*columns, strict=True)
        if rate > 0
    ]
