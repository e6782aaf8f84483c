"""Parallel axes on the machine: which devices of the job form a group, and how long its collectives take.

Ranks are laid out in the order of the case, innermost first; the default is tp, cp, ep, dp, pp (Megatron's --order), so
tp neighbours share the fastest tier. There are two grids over the same ranks: dense weights see tp, cp, dp, pp,
experts etp (in the place of tp), ep, edp (in the place of dp), pp.
"""

from __future__ import annotations

from functools import lru_cache

from supertwin.network.collective import CollectiveTime, collective_time
from supertwin.network.exchange import OUTSIDE, distinct_places, exchange_time
from supertwin.network.group import Group
from supertwin.training.case import Layout, TrainingCase
from supertwin.training.routing import reached_nodes, routed_block
from supertwin.workload.operators import Communication

# NCCL of 2023 under torch 2 (Vidur's profile of A100 nodes): all-reduces inside a node of 1 to 16 MiB take 25 to 65 %
# longer than with NCCL 2.27; nccl-tests of the time agree (stas00/ml-engineering, collectives.csv: 102, 101 and 277 us
# for 1, 4 and 16 MiB over eight A100, where the two tables have 64, 99, 274 and 39, 77, 217 us).
OLDER_NCCL = "nccl-vidur"
COMPOSED = ("dp", "shard")  # dp x cp: two groups where another axis lies between them


@lru_cache(maxsize=4096)
def strides(layout: Layout, order: tuple[str, ...]) -> dict[str, int]:
    """Distance between neighbours of each axis, in devices, on the dense and on the expert grid."""
    edp = max(layout.tp * layout.cp * layout.dp // (layout.ep * layout.etp), 1)
    grids = (
        {"tp": ("tp", layout.tp), "cp": ("cp", layout.cp), "dp": ("dp", layout.dp), "pp": ("pp", layout.pp)},
        {"tp": ("etp", layout.etp), "ep": ("ep", layout.ep), "dp": ("edp", edp), "pp": ("expert_pp", layout.pp)},
    )
    found: dict[str, int] = {}
    for grid in grids:
        distance = 1
        for axis in order:
            if axis in grid:
                name, size = grid[axis]
                found[name] = distance
                distance *= size
    return found


def replicas_adjoin(layout: Layout, order: tuple[str, ...]) -> bool:
    """Whether the ranks of cp and dp together lie at one distance from each other."""
    if layout.cp == 1 or layout.dp == 1:
        return True
    at = strides(layout, order)
    return at["dp"] == at["cp"] * layout.cp or at["cp"] == at["dp"] * layout.dp


def axis_group(case: TrainingCase, axis: str) -> Group:
    """Group of a parallel axis.

    dp: replicas of dense weights, which include cp ranks; edp: replicas of experts; shard: ranks that share one fully
    sharded copy; replica: the copies of that (HSDP); expert_shard, expert_replica: the same of expert weights;
    cp_inner, cp_outer: Ulysses and ring of hybrid context parallelism; tied: first and last pipeline device. Where cp
    and dp do not adjoin, dp and shard are given at the distance of the inner one of them. Raises KeyError.
    """
    limit = case.hsdp_shard_size if case.sharding == "hsdp" else 0
    return _groups(case.layout, case.order, limit, case.ulysses_size)[axis]


@lru_cache(maxsize=4096)
def _groups(layout: Layout, order: tuple[str, ...], shard_limit: int, ulysses_size: int) -> dict[str, Group]:
    """All groups of a layout. shard_limit: ranks that share one fully sharded copy (0 = all)."""
    at = strides(layout, order)
    replicas = layout.cp * layout.dp
    near = min([at[name] for name, size in (("cp", layout.cp), ("dp", layout.dp)) if size > 1], default=at["dp"])
    shard, inner = shard_limit or replicas, ulysses_size or 1
    experts = layout.ep * layout.etp
    edp = max(layout.tp * layout.cp * layout.dp // experts, 1)
    expert_shard = min(shard_limit or edp, edp)
    found = {
        "tp": (layout.tp, at["tp"]),
        "etp": (layout.etp, at["etp"]),
        "cp": (layout.cp, at["cp"]),
        "cp_inner": (inner, at["cp"]),
        "cp_outer": (max(layout.cp // inner, 1), at["cp"] * inner),
        "ep": (layout.ep, at["ep"]),
        "dp": (replicas, near),
        "edp": (edp, at["edp"]),
        "expert_shard": (expert_shard, at["edp"]),
        "expert_replica": (max(edp // expert_shard, 1), at["edp"] * expert_shard),
        "shard": (shard, near),
        "replica": (max(replicas // shard, 1), near * shard),
        "pp": (min(layout.pp, 2), at["pp"]),
        "tied": (min(layout.pp, 2), at["pp"] * max(layout.pp - 1, 1)),
        "world": (layout.devices, 1),
    }
    return {axis: Group(size, stride) for axis, (size, stride) in found.items()}


def composed_groups(case: TrainingCase) -> tuple[Group, Group]:
    """cp and dp as two groups, the inner one first."""
    layout, at = case.layout, strides(case.layout, case.order)
    both = sorted([(at["cp"], layout.cp), (at["dp"], layout.dp)])
    return Group(both[0][1], both[0][0]), Group(both[1][1], both[1][0])


class Fabric:
    """Prices collectives of one case; times of equal calls are kept.

    scale: factors on the fixed and on the per-byte part of every call (what-if: (0, 1) is a fabric without latency,
    (1, 0.5) one with twice the bandwidth, (0, 0) one that costs nothing). older_nccl: see OLDER_NCCL.
    """

    def __init__(
        self, case: TrainingCase, experts: int = 0, scale: tuple[float, float] = (1.0, 1.0), older_nccl: bool = False
    ) -> None:
        self._case, self._experts, self._scale = case, experts, scale
        self._older_nccl = older_nccl
        self._older = older_nccl and case.system.chip.vendor == "nvidia"
        self._known: dict[tuple[str, str, float], float] = {}
        self._groups: dict[str, Group] = {}
        inside = [tier.devices for tier in case.system.tiers if tier.path not in OUTSIDE]
        self._node = max(inside, default=1)
        self._reached = reached_nodes(case, routed_block(case.model), self._nodes("ep")) if experts else 0.0
        self._adjoin = replicas_adjoin(case.layout, case.order)

    def scaled(self, scale: tuple[float, float]) -> Fabric:
        """The same fabric with other factors on its times."""
        return Fabric(self._case, self._experts, scale, self._older_nccl)

    def _nodes(self, axis: str) -> float:
        """Scale-up domains that a group spans."""
        return max(self.group(axis).span / self._node, 1.0)

    def group(self, axis: str) -> Group:
        """Group of an axis, made once."""
        if axis not in self._groups:
            self._groups[axis] = axis_group(self._case, axis)
        return self._groups[axis]

    def time_s(self, op: str, axis: str, message_bytes: float) -> float:
        """Seconds of one collective; 0 for a group of one. message_bytes follows workload.operators.Communication."""
        group = self.group(axis)
        if group.size == 1 or message_bytes <= 0.0:
            return 0.0
        key = (op, axis, message_bytes)
        if key not in self._known:
            self._known[key] = (
                self._priced(op, group, message_bytes)
                if axis not in COMPOSED or self._adjoin
                else self._two_levels(op, message_bytes)
            )
        return self._known[key]

    def _priced(self, op: str, group: Group, message_bytes: float) -> float:
        if group.size == 1:
            return 0.0
        library = OLDER_NCCL if self._older and op == "all_reduce" and group.span <= self._node else "default"
        found = collective_time(self._case.system, op, message_bytes, group, library=library, context="production")
        return self._scaled(found)

    def _two_levels(self, op: str, message_bytes: float) -> float:
        """Replicas that lie in two groups: the inner one moves the whole message, the outer one its share of it."""
        inner, outer = composed_groups(self._case)
        share = message_bytes / inner.size
        if op != "all_reduce":
            return self._priced(op, inner, message_bytes) + self._priced(op, outer, share)
        halves = self._priced("reduce_scatter", inner, message_bytes) + self._priced("all_gather", inner, message_bytes)
        return halves + self._priced("all_reduce", outer, share)

    def operator_time_s(self, operator: Communication) -> float:
        """Seconds of one communication operator of the workload (sizes are plain numbers in training)."""
        if operator.op not in ("dispatch", "combine"):
            return self.time_s(operator.op, operator.axis, float(operator.message_bytes) * self._copies(operator))
        key = (operator.op, operator.axis, float(operator.message_bytes))
        if key not in self._known:
            found = exchange_time(
                self._case.system,
                operator.op,
                operator.tokens,
                operator.hidden,
                operator.topk,
                self.group(operator.axis),
                dtype=operator.dtype,
                mode="normal",
                experts=self._experts,
                block_limit=self._reached,
            )
            self._known[key] = self._scaled(found)
        return self._known[key]

    def _scaled(self, found: CollectiveTime) -> float:
        fixed, wire = self._scale
        if fixed == wire == 1.0:
            return float(found.time_s)
        return fixed * float(found.latency_s) + wire * float(found.bandwidth_s)

    def _copies(self, operator: Communication) -> float:
        """Share of an expert exchange that HybridEP sends: a token goes once to a rank, however many of its experts lie
        there (DeepEP, Hybrid-EP_Implementation.md), at the rate of the all-to-all (assumption)."""
        if operator.axis != "ep" or self._case.dispatcher != "hybridep" or not operator.topk:
            return 1.0
        return float(distinct_places(float(self.group("ep").size), operator.topk) / operator.topk)
