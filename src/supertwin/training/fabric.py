"""Parallel axes on the machine: which devices of the job form a group, and how long its collectives take.

Ranks are laid out innermost first as tp, cp, ep, dp, pp (Megatron's default order), so tp neighbours share the fastest
tier. Expert groups span tp x cp x dp with their own etp innermost.
"""

from __future__ import annotations

from supertwin.network.collective import CollectiveTime, collective_time
from supertwin.network.exchange import exchange_time
from supertwin.network.group import Group
from supertwin.training.case import TrainingCase
from supertwin.workload.operators import Communication


def axis_group(case: TrainingCase, axis: str) -> Group:
    """Group of a parallel axis.

    dp: replicas of dense weights, which include cp ranks; edp: replicas of experts; shard: ranks that share one fully
    sharded copy; replica: the copies of that (HSDP); tied: first and last pipeline device. Raises KeyError.
    """
    layout = case.layout
    inner = layout.tp * layout.cp * layout.dp
    replicas = layout.cp * layout.dp
    shard = case.hsdp_shard_size if case.sharding == "hsdp" and case.hsdp_shard_size else replicas
    experts = layout.ep * layout.etp
    size, stride = {
        "tp": (layout.tp, 1),
        "etp": (layout.etp, 1),
        "cp": (layout.cp, layout.tp),
        "ep": (layout.ep, layout.etp),
        "dp": (replicas, layout.tp),
        "edp": (max(inner // experts, 1), experts),
        "shard": (shard, layout.tp),
        "replica": (max(replicas // shard, 1), layout.tp * shard),
        "pp": (min(layout.pp, 2), inner),
        "tied": (min(layout.pp, 2), inner * max(layout.pp - 1, 1)),
        "world": (layout.devices, 1),
    }[axis]
    return Group(size, stride)


class Fabric:
    """Prices collectives of one case; times of equal calls are kept.

    scale: factors on the fixed and on the per-byte part of every call (what-if: (0, 1) is a fabric without latency,
    (1, 0.5) one with twice the bandwidth, (0, 0) one that costs nothing).
    """

    def __init__(self, case: TrainingCase, experts: int = 0, scale: tuple[float, float] = (1.0, 1.0)) -> None:
        self._case, self._experts, self._scale = case, experts, scale
        self._known: dict[tuple[str, str, float], float] = {}
        self._groups: dict[str, Group] = {}

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
            found = collective_time(self._case.system, op, message_bytes, group, context="production")
            self._known[key] = self._scaled(found)
        return self._known[key]

    def operator_time_s(self, operator: Communication) -> float:
        """Seconds of one communication operator of the workload (sizes are plain numbers in training)."""
        if operator.op not in ("dispatch", "combine"):
            return self.time_s(operator.op, operator.axis, float(operator.message_bytes))
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
            )
            self._known[key] = self._scaled(found)
        return self._known[key]

    def _scaled(self, found: CollectiveTime) -> float:
        fixed, wire = self._scale
        if fixed == wire == 1.0:
            return float(found.time_s)
        return fixed * float(found.latency_s) + wire * float(found.bandwidth_s)
