"""Parallel axes on the machine: which devices of the job form a group, and how long its collectives take.

Ranks are laid out innermost first as tp, cp, ep, dp, pp (Megatron's default order), so tp neighbours share the fastest
tier. Expert groups span tp x cp x dp with their own etp innermost.
"""

from __future__ import annotations

from collections.abc import Callable

from supertwin.machine.system import System
from supertwin.network.group import Group
from supertwin.training.case import TrainingCase


def axis_group(case: TrainingCase, axis: str) -> Group:
    """Group of a parallel axis.

    dp: replicas of dense weights, which include cp ranks; edp: replicas of experts; shard: ranks that share one fully
    sharded copy; replica: the copies of that (HSDP). Raises KeyError for an unknown axis.
    """
    layout = case.layout
    inner = layout.tp * layout.cp * layout.dp
    replicas = layout.cp * layout.dp
    shard = case.hsdp_shard_size if case.sharding == "hsdp" and case.hsdp_shard_size else replicas
    return {
        "tp": Group(layout.tp, 1),
        "etp": Group(layout.etp, 1),
        "cp": Group(layout.cp, layout.tp),
        "ep": Group(layout.ep, layout.etp),
        "dp": Group(replicas, layout.tp),
        "edp": Group(max(inner // (layout.ep * layout.etp), 1), layout.ep * layout.etp),
        "shard": Group(shard, layout.tp),
        "replica": Group(max(replicas // shard, 1), layout.tp * shard),
        "pp": Group(layout.pp, inner),
        "world": Group(layout.devices, 1),
    }[axis]


class Fabric:
    """Prices collectives of one case; times of equal calls are kept."""

    def __init__(self, case: TrainingCase, price: Callable[[str, float, Group, System], float]) -> None:
        self._case, self._price = case, price
        self._known: dict[tuple[str, str, float], float] = {}

    def time_s(self, op: str, axis: str, message_bytes: float) -> float:
        """Seconds of one collective; 0 for a group of one. message_bytes follows workload.operators.Communication."""
        group = axis_group(self._case, axis)
        if group.size == 1 or message_bytes <= 0.0:
            return 0.0
        key = (op, axis, message_bytes)
        if key not in self._known:
            self._known[key] = self._price(op, message_bytes, group, self._case.system)
        return self._known[key]
