"""Named consistency checks of a graph: what must hold for a fabric built right, and still after faults where it can."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from supertwin.machine.system import System
from supertwin.network.topology.capacity import bisection_bytes_per_s, halves
from supertwin.network.topology.graph import Graph
from supertwin.network.topology.patterns import all_to_all
from supertwin.network.topology.planes import Clos
from supertwin.network.topology.symmetry import classes

CLOSE = 1e-6


class Check(NamedTuple):
    """One check: its name, whether it holds, and the figures behind it."""

    name: str
    passed: bool
    detail: str


def checks(graph: Graph) -> list[Check]:
    """All checks that apply to a graph."""
    found = [_addresses(graph), _symmetry(graph), _line_rate(graph), *_ports(graph), *_convergence(graph)]
    return [*found, *_bisection(graph), _reach(graph), *_transceivers(graph), *_counts(graph)]


def _addresses(graph: Graph) -> Check:
    same = len(graph.parts) - len(set(graph.parts))
    return Check("addresses are unique", same == 0, f"{len(graph.parts)} parts, {same} repeated")


def _symmetry(graph: Graph) -> Check:
    back = np.arange(len(graph.link_from)) ^ 1
    wrong = (graph.link_from != graph.link_to[back]) | (graph.link_bytes_per_s != graph.link_bytes_per_s[back])
    wrong |= graph.link_plane != graph.link_plane[back]
    return Check("links are the same both ways", not wrong.any(), f"{len(back)} directed links, {wrong.sum()} differ")


def _line_rate(graph: Graph) -> Check:
    """Links of a device into a plane add up to the rate of the tier."""
    wrong, seen = [], 0
    for structure in graph.structures:
        if not isinstance(structure, Clos) or structure.plane not in graph.planes:
            continue
        at = graph.planes.index(structure.plane)
        links = np.flatnonzero(graph.link_plane == at)
        out = np.bincount(graph.link_from[links], graph.link_bytes_per_s[links], len(graph.parts))[graph.device_parts]
        seen += 1
        if not np.allclose(out, structure.line_rate, rtol=CLOSE):
            wrong.append(f"{structure.plane}: {out.min() / 1e9:g} of {structure.line_rate / 1e9:g} GB/s")
    return Check("device links add up to the line rate", not wrong, "; ".join(wrong) or f"{seen} switched planes")


def _ports(graph: Graph) -> list[Check]:
    cited = graph.system.cited.get("fabric.l2_ports")
    chips = graph.of_kind("switch-l2")
    if cited is None or not len(chips):
        return []
    used = np.bincount(graph.link_from, graph.link_count, len(graph.parts))[chips]
    detail = f"{len(chips)} chips, at most {used.max():g} of {cited.value:g} ports in use"
    return [Check("ports per L2 chip", bool(used.max() <= cited.value), detail)]


def _convergence(graph: Graph) -> list[Check]:
    """L1: rate towards L2 at least the rate of the devices below (processors come on top)."""
    chips = graph.of_kind("switch-l1")
    upper = np.zeros(len(graph.parts), bool)
    upper[graph.of_kind("switch-l2")] = True
    device = np.zeros(len(graph.parts), bool)
    device[graph.device_parts] = True
    if not upper.any() or not len(chips):
        return []
    up, down = (
        np.bincount(graph.link_from, graph.link_bytes_per_s * mask[graph.link_to], len(graph.parts))[chips]
        for mask in (upper, device)
    )
    alive = graph.part_alive[chips]
    passed = bool((up[alive] >= down[alive] * (1 - CLOSE)).all())
    return [
        Check(
            "1:1 convergence per L1 chip",
            passed,
            f"up {up[alive].min() / 1e9:g} GB/s or more, down {down.max() / 1e9:g} GB/s",
        )
    ]


def _bisection(graph: Graph) -> list[Check]:
    """In a switched scale-up plane that joins all devices, half of the devices reach the others at full rate."""
    plane = next((s for s in graph.structures if isinstance(s, Clos) and s.reach >= graph.devices), None)
    first, second = halves(graph)
    if plane is None or not first or not second:
        return []
    found = bisection_bytes_per_s(graph, [plane.plane])
    full = min(len(first), len(second)) * plane.line_rate
    detail = f"{found / 1e12:.4g} of {full / 1e12:.4g} TB/s from half to half in {plane.plane}"
    return [Check("full bisection", bool(found >= full * (1 - CLOSE)), detail)]


def _reach(graph: Graph) -> Check:
    """Every device reaches every other one, by one representative pair per kind."""
    if graph.devices < 2:
        return Check("every device reaches every device", True, "one device")
    found = classes(graph, all_to_all(graph.devices, 1.0))
    detail = f"{found.flows.sum():.0f} of {graph.devices * (graph.devices - 1)} ordered pairs"
    return Check("every device reaches every device", found.cut_off == 0, detail)


def _transceivers(graph: Graph) -> list[Check]:
    """Ends of optical links over the links of a module, against the count of the catalogue."""
    system = graph.system
    if graph.devices != system.full_devices or graph.devices == 1:
        return []
    found: list[Check] = []
    for name, start, planes in (
        ("scale-up", "transceiver_scale_up", ("ub", "nvlink")),
        ("scale-out", "transceiver_scale_out", ("rdma",)),
        ("scale-out", "scale_out_transceiver", ("rdma", "tcp")),
    ):
        stated = sum(count for part, count in system.counts.items() if part.startswith(start))
        ends = sum(_ends(graph, plane) for plane in planes if plane in graph.planes)
        if stated and ends and name not in {check.name.partition(" ")[0] for check in found}:
            built = ends / links_per_module(graph)
            found.append(
                Check(f"{name} transceivers", built == stated, f"{built:g} built, {stated:g} in the catalogue")
            )
    return found


def links_per_module(graph: Graph) -> int:
    """Links that one optical module carries, 1 where the catalogue does not say."""
    cited = graph.system.cited.get("fabric.links_per_module")
    return int(cited.value) if cited else 1


def _ends(graph: Graph, plane: str) -> float:
    """Ends of optical links; a server on its own brings only the modules at its own end."""
    links = graph.link_optical & (graph.link_plane == graph.planes.index(plane))
    if graph.system.full_devices == graph.system.devices_per_node and "fabric.links_per_module" in graph.system.cited:
        links &= graph.part_node[graph.link_from] >= 0
    return float(graph.link_count[links].sum())  # a directed link stands for the module at its start


def _counts(graph: Graph) -> list[Check]:
    """Parts by kind, of a full system, against the bill of materials."""
    system = graph.system
    if graph.devices != system.full_devices:
        return []
    found = []
    for name, kind, stated in _stated(system):
        built = len(graph.of_kind(kind))
        found.append(Check(f"count of {name}", built == stated, f"{built} built, {stated:g} in the catalogue"))
    return found


def _stated(system: System) -> list[tuple[str, str, float]]:
    rules = {"cpu": "cpu", "host": "cpu", "l1_chip": "switch-l1", "l2_chip": "switch-l2", "dpu": "card"}
    rules |= {"scale_up_switch": "switch-l1"}
    return [(name, kind, system.counts[name]) for name, kind in rules.items() if name in system.counts]
