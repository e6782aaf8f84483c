"""Operators of a block with their times: what was priced, and the exchanges, which are timed here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from supertwin.cost.result import OperatorCost
from supertwin.inference.exchange import Routed, communication_s
from supertwin.inference.layers import Block
from supertwin.inference.placement import Real
from supertwin.inference.plan import Plan
from supertwin.machine.system import System
from supertwin.workload.operators import Communication, Operator


@dataclass(frozen=True, slots=True)
class Piece:
    """One operator of a layer with its time: stage is attention, experts or exchange (what it overlaps with);
    outward: an exchange that brings tokens to their experts."""

    part: str
    stage: str
    time_s: Real
    bound: str
    cost: OperatorCost | None = None
    count: Real = 1.0
    outward: bool = False


def pieces_of(block: Block, plan: Plan, system: System, costs: Iterator[OperatorCost]) -> list[Piece]:
    """Operators of a block with their times; exchanges are timed here, the rest was priced."""
    out = []
    for o in block.operators:
        if isinstance(o, Communication):
            about = Routed(plan.experts, plan.engine.routes_in_passes, block.skew)
            time = communication_s(system, plan.placement, o, about) * o.count
            out.append(Piece(_part(o), "exchange", time, "network", outward=o.part.endswith("dispatch")))
        else:
            cost = next(costs)
            out.append(Piece(_part(o), _stage(o), cost.time_s * o.count, _bound(cost), cost, o.count))
    return out


def _bound(cost: OperatorCost) -> str:
    """What bounds the operator at the largest batch of a sweep."""
    compute, memory, start = (_last(x) for x in (cost.compute_s, cost.memory_s, cost.overhead_s))
    if compute >= memory and compute >= start:
        return "compute"
    return "memory" if memory >= start else "latency"


def _last(value: Real) -> float:
    return float(value.flat[-1]) if isinstance(value, np.ndarray) else float(value)


def _part(operator: Operator) -> str:
    if isinstance(operator, Communication):
        routed = operator.op in ("dispatch", "combine")
        return "dispatch and combine" if routed else f"{operator.axis} {operator.op}".replace("_", "-")
    head = operator.part.split("/")[0]
    kind = type(operator).__name__
    if kind == "Attention":
        return "attention core"
    if kind == "Vector":
        return f"{head} vector work"
    return {"attention": "attention projections"}.get(head, head)


def _stage(operator: Operator) -> str:
    return "attention" if operator.part.startswith(("attention", "norm", "embedding", "head")) else "experts"
