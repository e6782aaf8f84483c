"""MoE dispatch and combine, flow by flow: the volumes and costs of network.exchange on the links of a graph.

normal kernels: bytes inside the block of fast links go to its other ranks, bytes between blocks to the rank of the same
place, which hands them on; both run at once. Low-latency and fused kernels send every copy straight to its rank. The
engine's own rate (communication cores, receiving experts) is a limit of each flow; the share of the line rate that the
kernel reaches is paid on the links.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from supertwin.core.errors import InputError
from supertwin.network.exchange import (
    MODES,
    OUTSIDE,
    Exchange,
    Volumes,
    constants,
    is_by_copy,
    mode_of,
    volumes,
)
from supertwin.network.faults import Fault
from supertwin.network.flow.collectives import FlowCollective, Ranks, damaged, phase_times, ranks_of, slowest_links
from supertwin.network.flow.fabric import NO_FLOWS, Ints, flows
from supertwin.network.flow.run import run
from supertwin.network.span import Level, rank_levels
from supertwin.network.topology.build import plane_name
from supertwin.network.topology.graph import Graph
from supertwin.network.topology.patterns import Pattern


def exchange(  # noqa: PLR0913 - mirrors network.exchange_time
    graph: Graph,
    op: str,
    tokens_per_rank: float,
    hidden: float,
    topk: float,
    group: Ranks,
    *,
    dtype: str = "",
    mode: str = "auto",
    experts: float = 0.0,
    library: str = "default",
    faults: Sequence[Fault | str] = (),
    every: bool = False,
) -> FlowCollective:
    """Time of one dispatch or combine on the links of `graph`. Arguments as network.exchange_time.

    Raises UnknownName, InputError.
    """
    ranks = ranks_of(graph, group, every)
    vendor = graph.system.chip.vendor
    if not dtype:
        dtype = "bf16" if op != "dispatch" else ("int8" if vendor == "huawei" else "fp8")
    if mode not in MODES:
        raise InputError(f"exchange mode {mode!r}: expected one of {', '.join(MODES)}")
    call = Exchange(op, tokens_per_rank, hidden, topk, dtype, mode, experts)
    kind = mode_of(call)
    found = constants(graph.system, call, kind, library)
    levels = rank_levels(graph.system.tiers, ranks[0])
    if not levels:
        return FlowCollective(op, "none", 0.0, 0.0, 0.0, (), (), run(NO_FLOWS))
    moved = volumes(found, levels, call, kind)
    straight = bool(found.get("rdma_only")) or is_by_copy(found, kind)
    patterns = _patterns(ranks, levels, moved, straight)
    shares = _shares(graph, levels, moved, float(found["efficiency"]))
    classes, owner = flows(damaged(graph, faults), patterns, [shares] * len(patterns))
    fixed = float(moved.fixed_s)
    done = run(classes, fixed_s=fixed)
    outside = np.array([p.name == "outside" for p in patterns])[owner]
    beside = np.where(outside, 0.0, float(moved.beside_s))
    data = float((done.finish_s - fixed + beside).max(initial=float(moved.beside_s)))
    time = float(moved.total_s(data)) if np.isfinite(data) else np.inf
    name = "fused" if found.get("fused") else kind
    return FlowCollective(
        op, name, time, time - data if np.isfinite(data) else fixed, data,
        phase_times((tuple(patterns),), np.zeros(owner.size, np.int64), done), slowest_links(done), done,
        tuple(done.reasons.values()),
    )  # fmt: skip


def _patterns(ranks: Ints, levels: tuple[Level, ...], moved: Volumes, straight: bool) -> list[Pattern]:
    inside = [level for level in levels if level.path not in OUTSIDE]
    n, block = ranks.shape[1], inside[-1].outer if inside else 1
    within, outside = float(moved.inside_bytes), float(moved.outside_bytes)
    if n % block:
        raise InputError(f"an exchange of {n} ranks: expected the same number in every block of {block}")
    out: list[Pattern] = []
    limit = 1.0 / (float(moved.inside_s_per_byte) * max(1, block - 1))
    if straight and n > block:
        # every copy on its own way: one flow per pair; ranks of the same block get theirs as well
        each = outside / (n - block)
        one, other = np.nonzero(np.not_equal.outer(np.arange(n) // block, np.arange(n) // block))
        source, target = ranks[:, one].ravel(), ranks[:, other].ravel()
        out.append(Pattern("outside", each, source=source, target=target))
    elif n > block:
        same_place = np.swapaxes(ranks.reshape(len(ranks), -1, block), 1, 2).reshape(-1, n // block)
        out.append(Pattern("outside", outside / (n // block - 1), tuple(same_place)))
    if block > 1 and within > 0:
        groups = tuple(ranks.reshape(-1, block))
        out.append(replace(Pattern("inside", within / (block - 1), groups), limit_bytes_per_s=limit))
    return out


def _shares(graph: Graph, levels: tuple[Level, ...], moved: Volumes, efficiency: float) -> dict[str, float]:
    """Share of the line rate by plane."""
    inside = [level for level in levels if level.path not in OUTSIDE]
    out: dict[str, float] = {}
    for level in levels:
        plane = plane_name(next(tier for tier in graph.system.tiers if tier.name == level.tier))
        if level in inside:
            out[plane] = out[""] = min(1.0, efficiency)
        elif float(moved.outside_s_per_byte) > 0:
            out[plane] = out[""] = min(1.0, 1.0 / (float(moved.outside_s_per_byte) * level.bytes_per_s))
    return out
