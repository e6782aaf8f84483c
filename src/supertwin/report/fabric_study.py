"""Answers of `supertwin fabric` as dictionaries with JSON field names (SI units): overview, pairs, collectives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from supertwin.core.errors import InputError, UnknownName
from supertwin.machine.system import System
from supertwin.network import Group, collective_time, exchange_time
from supertwin.network.algorithms import ALGORITHMS, OPERATIONS
from supertwin.network.collective import CollectiveTime, Plan, calibrated, evaluate, lines_of
from supertwin.network.exchange import token_bytes
from supertwin.network.flow import FlowCollective
from supertwin.network.flow import collective as flow_collective
from supertwin.network.flow import exchange as flow_exchange
from supertwin.network.links import load_links, named_folder
from supertwin.network.span import group_levels, pair_levels
from supertwin.network.topology import Graph, bisection_bytes_per_s, build, checks, connect, routes
from supertwin.report.fabric_parts import INSIDE, link_rows, part_rows, plane_choices
from supertwin.report.fabric_tables import (
    EXCHANGES,
    EXPERTS,
    HIDDEN,
    SIZES,
    TOPK,
    Row,
    busbw_factor,
    engine_rows,
    group_rows,
    on_plane,
    pair_rows,
)

EVERY_OP = (*OPERATIONS, *EXCHANGES)
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


@dataclass(frozen=True, slots=True)
class Question:
    """A collective that was asked for. devices 0: all; algorithm and library "" for the library's choice."""

    op: str
    sizes: tuple[float, ...] = ()
    devices: int = 0
    stride: int = 1
    algorithm: str = ""
    library: str = ""
    level: str = ""  # closed | flow | "" for both


def check_question(fabric: Fabric, asked: Question) -> tuple[str, Group]:
    """Operation and group of a question. Raises UnknownName, InputError."""
    op = asked.op.replace("-", "_").lower()
    if op not in EVERY_OP:
        raise UnknownName("collective operation", asked.op, EVERY_OP)
    stride, most = asked.stride, fabric.system.devices
    size = asked.devices or max(1, -(-most // stride))
    if (size - 1) * stride + 1 > most:
        raise InputError(
            f"{size} devices {stride} apart span {(size - 1) * stride + 1:,} devices; {fabric.system.name} has {most:,}"
            f" in use: at most {-(-most // stride):,} devices at this stride"
        )
    if stride > 1 and most % (size * stride):
        raise InputError(
            f"groups of {size} devices {stride} apart (blocks of {size * stride}) do not divide the {most:,} devices in"
            " use; expected devices x stride to divide them"
        )
    if asked.algorithm and op in EXCHANGES:
        raise InputError(f"{op} has one algorithm per library; expected --library instead of --algorithm")
    if asked.algorithm and asked.algorithm not in (legal := [*ALGORITHMS[op], "hierarchical", "auto"]):
        raise UnknownName(f"algorithm of {op}", asked.algorithm, legal)
    return op, Group(size, stride)


def collective_fields(fabric: Fabric, asked: Question) -> dict[str, Any]:
    """A collective by message size: closed form beside flow level. Raises UnknownName, InputError."""
    op, group = check_question(fabric, asked)
    system = fabric.held
    per = system.chip.devices_per_package
    rows = []
    unreachable: list[str] = []
    for size in asked.sizes or SIZES:
        row: Row = {"bytes": size, "closed": None, "flow": None}
        if op in EXCHANGES:
            row["tokens"] = size / float(token_bytes(HIDDEN, _payload(system, op)))
        if asked.level != "flow":
            row["closed"] = closed_row(system, (op, size), group, asked)
        if asked.level != "closed" and group.size > 1:
            found = flow_run(fabric.graph, (op, size), group, asked)
            row["flow"] = flow_row(found, op, size, group.size)
            unreachable += [reason for reason in found.reasons if reason not in unreachable]
        rows.append(row)
    return {
        **head(fabric),
        "collective": op,
        "group": {"devices": group.size, "stride": group.stride, "packages": group.size / per},
        "rows": rows,
        "reachable": not unreachable,
        "reasons": unreachable[:5],
    }


def _payload(system: System, op: str) -> str:
    return "bf16" if op == "combine" else "int8" if system.chip.vendor == "huawei" else "fp8"


def closed_row(system: System, call: tuple[str, float], group: Group, asked: Question) -> Row | None:
    """One size in closed form; None where the library has no fitted line of the algorithm asked for."""
    op, size = call
    library = asked.library or "default"
    if op in EXCHANGES:
        tokens = size / float(token_bytes(HIDDEN, _payload(system, op)))
        found: CollectiveTime | None = exchange_time(
            system, op, tokens, HIDDEN, TOPK, group, experts=max(EXPERTS, group.size), library=library
        )
    elif asked.algorithm:
        found = _by_algorithm(system, call, group, asked)
    else:
        found = collective_time(system, op, size, group, library=library)
    return None if found is None else _time_row(op, size, group.size, found)


def _by_algorithm(system: System, call: tuple[str, float], group: Group, asked: Question) -> CollectiveTime | None:
    """The closed form held to one algorithm; None where the library has no fitted line of it."""
    op, size = call
    chip, levels = system.chip, (pair_levels if call[0] == "p2p" else group_levels)(system.tiers, group)
    key = (op, asked.library or "default", "benchmark", named_folder())
    found = calibrated(chip.name, chip.relative, chip.vendor, key, levels, group.size)
    if not levels:
        return CollectiveTime(0.0, 0.0, 0.0, "none", "none")
    every = lines_of(levels, op, found.groups)
    lines = tuple(line for line in every if asked.algorithm in ("auto", line.algorithm.split("/")[0]))
    if not any(size <= line.up_to_bytes for line in lines):
        return None
    return evaluate(Plan(lines, levels[-1].tier, found.floor_s, found.extra_s), size)


def _time_row(op: str, size: float, ranks: int, found: CollectiveTime) -> Row:
    time = float(found.time_s)
    rate = size / time if time else None
    return {
        "time_s": time,
        "latency_s": float(found.latency_s),
        "bytes_per_s": rate,
        "bus_bytes_per_s": None if rate is None or op in EXCHANGES else rate * busbw_factor(op, ranks),
        "algorithm": str(found.algorithm),
        "tier": found.tier,
    }


def flow_run(graph: Graph, call: tuple[str, float], group: Group, asked: Question) -> FlowCollective:
    """One size at flow level. Raises UnknownName, InputError."""
    op, size = call
    if op in EXCHANGES:
        tokens = size / float(token_bytes(HIDDEN, _payload(graph.system, op)))
        experts, library = max(EXPERTS, float(group.size)), asked.library or "default"
        return flow_exchange(graph, op, tokens, HIDDEN, TOPK, group, experts=experts, library=library)
    return flow_collective(
        graph, op, size, group, algorithm=asked.algorithm or "auto", library=asked.library or "default"
    )


def flow_row(found: FlowCollective, op: str, size: float, ranks: int) -> Row:
    """One size at flow level, as fields; time null where flows are cut off."""
    finite = bool(np.isfinite(found.time_s))
    rate = size / found.time_s if finite and found.time_s else None
    return {
        "time_s": found.time_s if finite else None,
        "latency_s": found.latency_s,
        "bytes_per_s": rate,
        "bus_bytes_per_s": None if rate is None or op in EXCHANGES else rate * busbw_factor(op, ranks),
        "algorithm": found.algorithm,
        "bottleneck": found.bottlenecks[0][0] if found.bottlenecks else "",
        "bottlenecks": [{"link": name, "busy_s": busy} for name, busy in found.bottlenecks],
        "phases": [
            {"name": p.name, "start_s": p.start_s, "end_s": p.end_s if np.isfinite(p.end_s) else None, "flows": p.flows}
            for p in found.phases
        ],
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
        ends = [int(graph.part_node[part_of(graph, end)]) for end in (source, target)]
        plane = fabric.plane or "auto"
        healthy = connect(fabric.whole, source, target, plane)
        per_node = fabric.system.devices_per_node
        rate, wait = stream(fabric.system, (ends[0] * per_node, ends[1] * per_node), healthy)
        row["stream_bytes_per_s"] = rate * row["bytes_per_s"] / healthy.bytes_per_s
        row["stream_latency_s"] = wait + row["latency_s"] - healthy.latency_s
    return row


def timeline(fabric: Fabric, asked: Question) -> dict[str, Any]:
    """The largest size of a collective as a Perfetto timeline. Raises UnknownName, InputError."""
    from supertwin.network.flow import trace

    op, group = check_question(fabric, asked)
    found = flow_run(fabric.graph, (op, max(asked.sizes or SIZES)), group, asked)
    return trace(found.run)
