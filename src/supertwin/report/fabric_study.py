"""Answers of `supertwin fabric` as dictionaries with JSON field names (SI units): overview, pairs, collectives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from supertwin.core.errors import InputError, UnknownName
from supertwin.machine.system import System
from supertwin.network.links import load_links
from supertwin.network.topology import Graph, bisection_bytes_per_s, build, checks, connect, routes
from supertwin.report.fabric_parts import INSIDE, link_rows, part_rows, plane_choices
from supertwin.report.fabric_tables import (
    Row,
    engine_rows,
    group_rows,
    on_plane,
    pair_rows,
)

HOP_ROWS = 12


@dataclass(frozen=True)
class Fabric:
    """A system, the plane that traffic is held to ("" for the one each pair would take) and what is broken."""

    system: System
    plane: str = ""
    faults: tuple[str, ...] = ()

    @cached_property
    def whole(self) -> Graph:
        """The graph without faults. Raises UnknownName for a plane that it does not have."""
        graph = build(self.system)
        legal = plane_choices(graph)
        if not self.plane:
            return graph
        if self.plane not in legal:
            raise UnknownName(f"plane of {self.system.name}", self.plane, legal)
        held = on_plane(self.system, self.plane)
        inside = {tier.path for tier in held.tiers} & set(INSIDE)
        kept = tuple(s for s in graph.structures if s.plane == self.plane or s.plane in inside)
        return replace(graph, system=held, structures=kept)

    @cached_property
    def graph(self) -> Graph:
        """The graph after the faults. Raises UnknownName, InputError."""
        if not self.faults:
            return self.whole
        from supertwin.network.faults import apply

        return apply(self.whole, self.faults)

    @property
    def held(self) -> System:
        """The system with the tiers that traffic may use."""
        return self.whole.system


def overview_fields(fabric: Fabric) -> dict[str, Any]:
    """What the fabric is made of and what pairs and groups get, in closed form."""
    graph, system = fabric.graph, fabric.held
    many = graph.devices > 1
    planes = [fabric.plane] if fabric.plane else plane_choices(graph)
    cuts = [(plane, bisection_bytes_per_s(graph, [plane])) for plane in planes] if many else []
    return {
        **head(fabric),
        "parts": part_rows(graph),
        "links": link_rows(graph),
        "checks": [{"name": c.name, "ok": bool(c.passed), "detail": c.detail} for c in checks(fabric.whole)],
        "bisection": [
            {"plane": plane, "bytes_per_s": rate, "bytes_per_s_per_device": rate / (graph.devices // 2)}
            for plane, rate in cuts
            if rate > 0
        ],
        "hops": hop_rows(fabric),
        "pairs": pair_rows(system) if many and system.tiers else [],
        "engines": engine_rows(system) if many and not fabric.plane else [],
        "groups": group_rows(system) if many and system.tiers else [],
    }


def head(fabric: Fabric) -> dict[str, Any]:
    """Fields that every answer has."""
    system = fabric.system
    return {
        "system": system.name,
        "title": f"{system.name}: {system.devices:,} devices in {system.nodes:,} nodes",
        "devices": system.devices,
        "devices_per_package": system.chip.devices_per_package,
        "plane": fabric.plane or "auto",
        "faults": list(fabric.faults),
        "sources": sources(system),
    }


def sources(system: System) -> list[Row]:
    """Numbers that the answers stand on: tiers and planes from the catalogue, constants of links from calibration."""
    names = [n for n in system.cited if n.startswith(("tiers.", "planes.", "fabric."))]
    rows = [
        {
            "name": n,
            "value": f"{system.cited[n].value:.6g} {_si_unit(n)}".rstrip(),
            "source": system.cited[n].source,
            "layer": system.cited[n].kind,
        }
        for n in names
    ]
    found = load_links(system.chip).sources()
    return rows + [dict(zip(("name", "value", "source", "layer"), row, strict=True)) for row in found]


def _si_unit(name: str) -> str:
    return "bytes/s" if name.endswith("bandwidth") else "s" if name.endswith("latency") else ""


def hop_rows(fabric: Fabric) -> list[Row]:
    """Links and latency of the route from device 0 to a neighbour, across the node and to the last device."""
    graph, system = fabric.graph, fabric.system
    last, per_node = graph.devices - 1, system.devices_per_node
    targets = dict.fromkeys(
        t for t in (1, min(per_node, graph.devices) - 1, min(per_node, last), last) if 0 < t <= last
    )
    return [pair_fields(fabric, 0, target) for target in targets]


def pair_fields(fabric: Fabric, source: int | str, target: int | str) -> Row:
    """The connection of two devices or parts: plane, paths, hops one by one, line rate, latency.

    Raises InputError, UnknownName.
    """
    graph = fabric.graph
    plane = fabric.plane or "auto"
    found = connect(graph, source, target, plane)
    reachable = not found.reason
    ways = routes(graph, source, target, plane)
    hops = [
        {
            "to": graph.parts[graph.link_to[link]],
            "plane": graph.planes[graph.link_plane[link]],
            "latency_s": float(graph.link_latency_s[link]),
            "bytes_per_s": float(graph.link_bytes_per_s[link]),
            "optical": bool(graph.link_optical[link]),
        }
        for link in (ways[0].links if ways else ())[:HOP_ROWS]
    ]
    return {
        "source": found.source,
        "target": found.target,
        "reachable": reachable,
        "reason": found.reason,
        "plane": found.plane,
        "paths": found.paths,
        "hops": hops,
        "bytes_per_s": found.bytes_per_s,
        "latency_s": found.latency_s if reachable else None,
    }


def pair_ends(text: str) -> tuple[int | str, int | str]:
    """`0,17` or `node0/npu0/die0,node1/cpu2`. Raises InputError."""
    words: Sequence[str] = [word.strip() for word in text.split(",")]
    if len(words) != 2 or not all(words):
        raise InputError(
            f"--pair: expected two devices or parts such as 0,17 or node0/cpu1,node3/npu5/die1, got {text!r}"
        )
    first, second = (int(w) if w.isascii() and w.isdigit() and len(w) < 10 else w for w in words)
    return first, second


def stream_fields(fabric: Fabric, source: int | str, target: int | str) -> Row:
    """As pair_fields, with what one measured stream reaches over the connection."""
    from supertwin.network.topology.routes import part_of
    from supertwin.report.fabric_matrix import stream

    row = pair_fields(fabric, source, target)
    row |= {"stream_bytes_per_s": None, "stream_latency_s": None}
    if row["reachable"]:
        graph = fabric.graph
        parts = [part_of(graph, end) for end in (source, target)]
        ends = [int(graph.part_node[part]) for part in parts]
        kinds = ["host" if graph.kind_of(part) == "cpu" else "device" for part in parts]
        plane = fabric.plane or "auto"
        healthy = connect(fabric.whole, source, target, plane)
        per_node = fabric.system.devices_per_node
        places = ends[0] * per_node, ends[1] * per_node
        rate, wait = stream(fabric.system, places, healthy, kinds=(kinds[0], kinds[1]))
        row["stream_bytes_per_s"] = rate * row["bytes_per_s"] / healthy.bytes_per_s
        row["stream_latency_s"] = wait + row["latency_s"] - healthy.latency_s
    return row
