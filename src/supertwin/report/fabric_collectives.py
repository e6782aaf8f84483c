"""Collectives of `supertwin fabric`: closed form beside flow level, as dictionaries with JSON names (SI units)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from supertwin.core.errors import InputError, UnknownName
from supertwin.machine.fitted import named_folder
from supertwin.machine.system import System
from supertwin.network import Group, collective_time, exchange_time
from supertwin.network.algorithms import ALGORITHMS, OPERATIONS
from supertwin.network.collective import CollectiveTime, Plan, calibrated, evaluate, lines_of
from supertwin.network.exchange import token_bytes
from supertwin.network.flow import FlowCollective
from supertwin.network.flow import collective as flow_collective
from supertwin.network.flow import exchange as flow_exchange
from supertwin.network.span import group_levels, pair_levels
from supertwin.network.topology import Graph
from supertwin.report.fabric_study import Fabric, head
from supertwin.report.fabric_tables import EXCHANGES, EXPERTS, HIDDEN, SIZES, TOPK, Row, busbw_factor

EVERY_OP = (*OPERATIONS, *EXCHANGES)


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


def timeline(fabric: Fabric, asked: Question) -> dict[str, Any]:
    """The largest size of a collective as a Perfetto timeline. Raises UnknownName, InputError."""
    from supertwin.network.flow import trace

    op, group = check_question(fabric, asked)
    found = flow_run(fabric.graph, (op, max(asked.sizes or SIZES)), group, asked)
    return trace(found.run)
