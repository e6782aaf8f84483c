"""What faults do: to pairs, to the bisection, to collectives, to a decode and a training step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from supertwin.core.errors import SupertwinError
from supertwin.machine.system import System
from supertwin.machine.systems import with_devices
from supertwin.network.faults import effect
from supertwin.network.faults.effect import Effect, PairEffect
from supertwin.network.flow import FlowCollective
from supertwin.network.flow import collective as flow_collective
from supertwin.network.flow import exchange as flow_exchange
from supertwin.network.topology import Graph
from supertwin.network.topology.build import plane_name
from supertwin.report.fabric_study import Fabric, head
from supertwin.report.fabric_tables import EXCHANGES, EXPERTS, HIDDEN, TOKENS, TOPK, Row
from supertwin.scenarios import load_scenario
from supertwin.scenarios.run import predict_case

Numbers = npt.NDArray[np.int64]
STUDY_BYTES = 2.0**26
STUDIED = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
STEPS = {  # operating points that a fault is tried on: a decode and a training step
    "cm384": ("cm384-decode-4k", "pangu-ultra-moe-cm384"),
    "gb200-nvl72": ("nvl72-decode", "pangu-ultra-moe-nvl72"),
    "dgx-h800": ("h800-decode", "pangu-ultra-moe-h800"),
    "dgx-h100": ("h100-decode", "pangu-ultra-moe-h100"),
    "atlas-a2": ("pangu-ultra-moe", "pangu-ultra-135b"),
}


def fault_fields(fabric: Fabric) -> dict[str, Any]:
    """Before and after the faults. Raises UnknownName, InputError."""
    before, after = fabric.whole, fabric.graph
    found = effect(before, after)
    shares, living = tier_shares(fabric), cut_off_among_living(found, after)
    return {
        **head(fabric),
        "devices_lost": list(found.devices_lost),
        "parts_lost": found.parts_lost,
        "links_lost": found.links_lost,
        "links_degraded": found.links_degraded,
        "cut_off_pairs": found.cut_off,
        "cut_off_pairs_of_living_devices": living,
        "mean_bytes_per_s": {"before": found.mean_bytes_per_s[0], "after": found.mean_bytes_per_s[1]},
        "pairs": [_pair(row) for row in found.pairs],
        "bisection": [{"plane": p, "before_bytes_per_s": a, "after_bytes_per_s": b} for p, a, b in found.bisection],
        "collectives": collective_rows(fabric),
        "tier_shares": shares,
        "steps": step_rows(fabric, shares, living > 0),
        "reachable": found.cut_off == 0,
        "reasons": sorted({row.after.reason for row in found.pairs if row.before.paths and row.after.reason})[:5],
    }


def _pair(row: PairEffect) -> Row:
    def side(found: Any) -> Row:
        return {
            "plane": found.plane,
            "paths": found.paths,
            "hops": found.hops,
            "bytes_per_s": found.bytes_per_s,
            "latency_s": found.latency_s if np.isfinite(found.latency_s) else None,
        }

    names = {"source": row.after.source, "target": row.after.target}
    return {
        "pairs": row.pairs,
        **names,
        "before": side(row.before),
        "after": side(row.after),
        "reason": row.after.reason,
    }


def alive_devices(graph: Graph) -> Numbers:
    """Numbers of the devices that are left."""
    return np.flatnonzero(graph.part_alive[graph.device_parts]).astype(np.int64)


def whole_nodes(graph: Graph) -> Numbers:
    """Devices of the nodes that have lost none, as many nodes as a job would take; all that are left without any.

    A job leaves the broken node out, and lays itself out over a number of nodes without large prime factors. Nodes
    whose links have changed stay in.
    """
    left, node = alive_devices(graph), graph.part_node[graph.device_parts]
    size = np.bincount(node)
    full = np.flatnonzero(np.bincount(node[left], minlength=size.size) == size)
    weak = graph.link_bytes_per_s == 0
    hit = np.unique(graph.part_node[np.concatenate([graph.link_from[weak], graph.link_to[weak]])])
    order = np.concatenate([full[np.isin(full, hit)], full[~np.isin(full, hit)]])
    taken = np.sort(order[: _round_number(full.size)])
    kept = left[np.isin(node[left], taken)]
    return kept if kept.size > 1 else left


def _round_number(most: int) -> int:
    """The largest number up to `most` whose prime factors are 2, 3, 5 and 7."""
    for number in range(most, 0, -1):
        rest = number
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return number
    return 0


def collective_rows(fabric: Fabric) -> list[Row]:
    """64 MiB or 128 tokens per device before, and after over the nodes that are whole, at flow level."""
    before, after = fabric.whole, fabric.graph
    left = whole_nodes(after)
    if left.size < 2:
        return []
    everyone = np.arange(before.devices, dtype=np.int64)
    changed = before.link_bytes_per_s != after.link_bytes_per_s
    ends = after.part_node[np.concatenate([after.link_from[changed], after.link_to[changed]])]
    touched = np.isin(ends, after.part_node[after.device_parts[left]]).any()
    if left.size < before.devices and not touched:  # what is left is a smaller fabric, as good as new
        after, left = before, everyone[: left.size]
    irregular = left.size < before.devices and bool(touched)
    rows = []
    for op in ("all_to_all", *EXCHANGES) if irregular else (*STUDIED, *EXCHANGES):
        first, second = _run(before, op, everyone), _run(after, op, left)
        bound = second.bottlenecks[0][0] if second.bottlenecks else ""
        row = _compared(op, first.time_s, second.time_s, bound)
        row |= {"devices": int(left.size), "algorithm": second.algorithm}
        rows.append({**row, "reason": second.reasons[0] if second.reasons else ""})
    return rows


def _run(graph: Graph, op: str, devices: Numbers) -> FlowCollective:
    if op in EXCHANGES:
        experts = max(EXPERTS, float(devices.size))
        return flow_exchange(graph, op, TOKENS, HIDDEN, TOPK, devices, experts=experts)
    return flow_collective(graph, op, STUDY_BYTES, devices)


def _compared(name: str, before: float, after: float, note: str) -> Row:
    finite = bool(np.isfinite(after))
    return {
        "name": name,
        "before_s": before,
        "after_s": after if finite else None,
        "ratio": after / before if finite and before else None,
        "note": note,
    }


def tier_shares(fabric: Fabric) -> dict[str, float]:
    """Share of the bandwidth of each tier that the slowest device keeps, by all-to-alls in all blocks of the tier.

    A step waits for its slowest member, so this is what the tier is worth to it. Blocks that lost a device are left out
    (the job moves) as long as there are others. 0: devices are cut off.
    """
    shares = {}
    for tier in fabric.held.tiers:
        plane = plane_name(tier) if tier.path != "tcp" or tier.scale_out else fabric.plane
        ranks = _blocks(fabric.graph, min(tier.devices, fabric.graph.devices))
        times = []
        for graph in (fabric.whole, fabric.graph):
            held = graph  # what a plane has lost may take another one; the scale-out has to be asked for
            if tier.scale_out:
                held = replace(graph, structures=tuple(s for s in graph.structures if s.plane == plane))
            times.append(flow_collective(held, "all_to_all", STUDY_BYTES, ranks).transfer_s if ranks.size > 1 else 0.0)
        shares[tier.name] = 1.0 if not times[0] else min(1.0, times[0] / times[1]) if np.isfinite(times[1]) else 0.0
    return shares


def _blocks(graph: Graph, size: int) -> Numbers:
    """Devices by block, [blocks, size]: those that have lost none; else the devices of whole nodes as one block."""
    left = alive_devices(graph)
    count = np.bincount(left // size, minlength=1)
    full = np.flatnonzero(count == size)
    return full[:, None] * size + np.arange(size) if full.size else whole_nodes(graph)[None, :]


def slowed(system: System, shares: dict[str, float]) -> System:
    """The system with the bandwidth of its tiers times the shares; a tier that has none left hands on to the next."""
    left = {t.name: shares.get(t.name, 1.0) for t in system.tiers}
    tiers = tuple(
        replace(t, bandwidth_bytes_per_s=t.bandwidth_bytes_per_s * left[t.name])
        for t in system.tiers
        if left[t.name] > 0.0
    )
    return replace(system, tiers=tiers)


def step_rows(fabric: Fabric, shares: dict[str, float], cut_off: bool) -> list[Row]:
    """The decode and the training step of the machine before and after. cut_off: devices that live cannot talk."""
    rows = []
    lost = int((~fabric.graph.part_alive[fabric.graph.device_parts]).sum())
    for name in STEPS.get(fabric.system.name, ()):
        scenario = load_scenario(name)
        devices = int(scenario.system.rpartition(":")[2])
        row: Row = {"scenario": name, "title": scenario.title, "devices": devices, "after_s": None, "ratio": None}
        try:
            whole = with_devices(fabric.system, devices)
            whole = replace(whole, tiers=fabric.held.tiers)
            row["before_s"] = predict_case(scenario, {"system": whole}).step_time_s
            if cut_off:
                rows.append({**row, "reason": "devices are cut off from each other"})
                continue
            row["after_s"] = predict_case(scenario, {"system": slowed(whole, shares)}).step_time_s
            row["ratio"] = row["after_s"] / row["before_s"]
            number = "1 device is" if lost == 1 else f"{lost} devices are"
            row["reason"] = f"stops until {number} replaced, then as shown" if lost else ""
        except SupertwinError as error:
            row = {"before_s": None, **row, "reason": str(error)}
        rows.append(row)
    return rows


def cut_off_among_living(found: Effect, graph: Graph) -> int:
    """Ordered pairs of devices that are both there and have lost every path."""
    alive = dict(zip(graph.parts, graph.part_alive.tolist(), strict=True))
    rows = [row for row in found.pairs if row.before.paths and not row.after.paths]
    return sum(row.pairs for row in rows if alive[row.after.source] and alive[row.after.target])
