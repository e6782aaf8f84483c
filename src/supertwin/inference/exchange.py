"""Time of the exchanges inside a step: groups of the deployment, kernels of inference engines, production context."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from supertwin.core.formats import number_format
from supertwin.inference.arrival import CUDA_ARRIVAL_VARIANCE_S, NO_MEETING, apart
from supertwin.inference.local import AXIS
from supertwin.inference.offload import HOST, fetch_s
from supertwin.inference.placement import Placement, Real
from supertwin.machine.system import System
from supertwin.network.collective import CollectiveTime, collective_time
from supertwin.network.exchange import LOW_LATENCY_TOKENS, Exchange, price_exchange
from supertwin.network.group import Group
from supertwin.workload.operators import Communication

COUNT_BYTES, SCALE_BYTES = 8.0, 4.0  # rows per expert (int64) and scale of a quantised row (FP32)


@dataclass(frozen=True, slots=True)
class Routed:
    """What dispatch and combine need beside their operator. experts: routed experts over all ranks; plain: many tokens
    travel by an all-to-all of every copy instead of a kernel; skew: rows of the busiest rank over the mean; decodes:
    the step has no prompt tokens. Steps that have some take the kernels for many tokens however few they are (SGLang's
    deepep_mode auto resolves by is_extend_in_batch, cann-recipes-infer by is_prefill)."""

    experts: float = 0.0
    plain: bool = False
    skew: Real = 1.0
    decodes: bool = True


BALANCED = Routed()


def communication_s(system: System, placement: Placement, operator: Communication, routed: Routed = BALANCED) -> Real:
    """Seconds of one exchange."""
    return communication(system, placement, operator, routed).time_s


def communication(
    system: System, placement: Placement, operator: Communication, routed: Routed = BALANCED
) -> CollectiveTime:
    """Time of one exchange, with its fixed part apart."""
    if operator.axis == HOST:
        seconds = fetch_s(system, operator.message_bytes, operator.tokens)
        return CollectiveTime(seconds, 0.0 * seconds, seconds, "none", HOST)
    group = group_of(placement, operator)
    if operator.op in ("dispatch", "combine"):
        return _routed(system, operator, group, routed)
    return _collective(system, operator.op, operator.message_bytes, group)


def _collective(system: System, op: str, message_bytes: Real, group: Group) -> CollectiveTime:
    return collective_time(system, op, message_bytes, group, library="inference", context="production")


def _busiest(time: CollectiveTime, skew: Real) -> CollectiveTime:
    """All wait for the rank that takes in (dispatch) or gives out (combine) the most rows."""
    moved = time.bandwidth_s * skew
    return CollectiveTime(time.latency_s + moved, time.latency_s, moved, time.algorithm, time.tier)


def _routed(system: System, o: Communication, group: Group, routed: Routed) -> CollectiveTime:
    """Dispatch or combine. CANN's fused kernels are measured with 128 tokens per rank; DeepEP's normal kernels on
    Ascend with 4,096. On NVIDIA decode keeps the low-latency kernels at any batch (SGLang deepep_mode auto, vLLM
    deepep_low_latency: captured graphs need their fixed buffers; SGLang's GB200 runs sized them for 1,408 tokens)."""

    def timed(library: str, mode: str, together: bool = False) -> CollectiveTime:
        call = Exchange(o.op, o.tokens, o.hidden, o.topk, o.dtype, mode, routed.experts, together=together)
        return _busiest(price_exchange(system, call, group, library), routed.skew)

    most = np.inf if system.chip.vendor == "nvidia" else LOW_LATENCY_TOKENS
    few = o.tokens <= (most if routed.decodes else 0)
    ascend = system.chip.vendor == "huawei"  # fused kernels: arrival.py has the wait
    every, some = (few, few) if isinstance(few, bool) else (bool(np.all(few)), bool(np.any(few)))
    if every:
        return timed("default", "low-latency", ascend)
    if not ascend:
        return timed("default", "auto" if some else "normal")
    normal = _all_to_all(system, o, group, routed) if routed.plain else timed("deepep-ascend", "normal")
    if not some:
        return normal
    fused = timed("default", "low-latency", ascend)
    time, fixed = (np.where(few, getattr(fused, n), getattr(normal, n)) for n in ("time_s", "latency_s"))
    return replace(normal, time_s=time, latency_s=fixed, bandwidth_s=time - fixed)


def awaited(system: System, placement: Placement, o: Communication, routed: Routed) -> Real:
    """e(n) sqrt(c) of the ranks that wait for each other in this exchange: fused dispatch and combine on Ascend; on
    NVIDIA attention ranks that send, or gather, their tokens; else none."""
    if not o.part.endswith(("dispatch", "combine")) or not routed.decodes:
        return NO_MEETING
    if system.chip.vendor == "nvidia":
        return apart(placement.ranks, CUDA_ARRIVAL_VARIANCE_S)
    if system.chip.vendor != "huawei" or o.op not in ("dispatch", "combine"):
        return NO_MEETING
    spread = apart(placement.ep_group.size)
    if isinstance(o.tokens, (int, float)):
        return spread if o.tokens <= LOW_LATENCY_TOKENS else NO_MEETING
    return np.where(np.asarray(o.tokens) <= LOW_LATENCY_TOKENS, spread, 0.0)


def _all_to_all(system: System, o: Communication, group: Group, routed: Routed) -> CollectiveTime:
    """All copies by an all-to-all; on the way out one of the counts before it and one of the scales of quantised rows
    after it (cann-recipes-infer, dispatch_double_routing)."""
    time = _busiest(_collective(system, "all_to_all", o.message_bytes, group), routed.skew)
    if o.op == "combine":
        return time
    time = _both(time, _collective(system, "all_to_all", routed.experts * COUNT_BYTES, group))
    if number_format(o.dtype).bytes_per_element > 1.0:
        return time
    return _both(time, _collective(system, "all_to_all", o.tokens * o.topk * SCALE_BYTES, group))


def _both(one: CollectiveTime, other: CollectiveTime) -> CollectiveTime:
    """One after the other."""
    whole, fixed, moved = (
        one.time_s + other.time_s,
        one.latency_s + other.latency_s,
        one.bandwidth_s + other.bandwidth_s,
    )
    return CollectiveTime(whole, fixed, moved, one.algorithm, one.tier)


def group_of(placement: Placement, operator: Communication) -> Group:
    """The ranks that an operator's axis means here. Gathering tokens runs between attention ranks, whose tp members
    each carry their part."""
    p = placement
    if operator.axis.startswith(AXIS):
        return Group(int(operator.axis.removeprefix(AXIS)), 1)
    if operator.axis == "ep":
        return p.ep_group if operator.op in ("dispatch", "combine", "all_to_all") else p.expert_group
    return {
        "tp": p.tp_group,
        "etp": Group(p.etp, 1),
        "cp": p.cp_group,
        "pp": Group(p.pp, p.tp * p.token_split * p.ranks),
    }[operator.axis]
