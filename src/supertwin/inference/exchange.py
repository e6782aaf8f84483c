"""Time of the exchanges inside a step: groups of the deployment, kernels of inference engines, production context."""

from __future__ import annotations

import numpy as np

from supertwin.inference.placement import Placement, Real
from supertwin.machine.system import System
from supertwin.network.collective import collective_time
from supertwin.network.exchange import LOW_LATENCY_TOKENS, Exchange, price_exchange
from supertwin.network.group import Group
from supertwin.workload.operators import Communication


def communication_s(
    system: System, placement: Placement, operator: Communication, experts: float = 0.0, plain: bool = False
) -> Real:
    """Seconds of one exchange. experts: routed experts over all ranks (dispatch and combine); plain: many tokens travel
    by an all-to-all of every copy instead of a dispatch or combine kernel."""
    group = group_of(placement, operator)
    if operator.op in ("dispatch", "combine"):
        return _routed_s(system, operator, group, experts, plain)
    return _collective_s(system, operator.op, operator, group)


def _collective_s(system: System, op: str, o: Communication, group: Group) -> Real:
    return collective_time(system, op, o.message_bytes, group, library="inference", context="production").time_s


def _routed_s(system: System, o: Communication, group: Group, experts: float, plain: bool) -> Real:
    """Dispatch or combine. CANN's fused kernels are measured with 128 tokens per rank; DeepEP's normal kernels on
    Ascend with 4,096."""

    def timed(library: str, mode: str) -> Real:
        call = Exchange(o.op, o.tokens, o.hidden, o.topk, o.dtype, mode, experts)
        return price_exchange(system, call, group, library).time_s

    few = np.asarray(o.tokens) <= LOW_LATENCY_TOKENS
    if np.all(few):
        return timed("default", "low-latency")
    if system.chip.vendor != "huawei":
        return timed("default", "auto" if np.any(few) else "normal")
    normal = _collective_s(system, "all_to_all", o, group) if plain else timed("deepep-ascend", "normal")
    return np.where(few, timed("default", "low-latency"), normal) if np.any(few) else normal


def group_of(placement: Placement, operator: Communication) -> Group:
    """The ranks that an operator's axis means here. Gathering tokens runs between attention ranks, whose tp members
    each carry their part."""
    p = placement
    if operator.axis == "ep":
        return p.ep_group if operator.op in ("dispatch", "combine", "all_to_all") else p.expert_group
    return {
        "tp": p.tp_group,
        "etp": Group(p.etp, 1),
        "cp": p.cp_group,
        "pp": Group(p.pp, p.tp * p.token_split * p.ranks),
    }[operator.axis]
