"""Where tokens go in a MoE layer: load of the busiest rank, capacity, copies of hot experts, nodes of a token.

The busiest expert rank sets the time of a layer, since the exchange joins all ranks:

    skew = min(1 + e(R) sqrt(cv^2 R / E c^2 + 1 / rows), capacity factor)      (workload.balance)

A router that is forced to balance, grouped experts (MoGE, arXiv 2505.21411) and one rank have skew 1. With padding,
every expert computes its whole capacity (Megatron --moe-pad-expert-input-to-capacity).
"""

from __future__ import annotations

from dataclasses import dataclass

from supertwin.model.spec import FeedForwardSpec, ModelSpec
from supertwin.training import assumptions as assume
from supertwin.training.case import TrainingCase
from supertwin.workload.balance import busiest_over_mean, dropped_share
from supertwin.workload.feed_forward import effective_topk


@dataclass(frozen=True, slots=True)
class Routing:
    """skew: token-expert pairs that the busiest rank computes over the mean; dropped: share of the pairs that no expert
    computes."""

    skew: float = 1.0
    dropped: float = 0.0


def routing_of(case: TrainingCase) -> Routing:
    """Routing of a case; balanced for dense models."""
    block = routed_block(case.model)
    if block is None:
        return Routing(case.skew or 1.0)
    capacity = case.capacity_factor
    if capacity and case.pad_experts:
        return Routing(capacity, _dropped(case, block, capacity))
    skew = case.skew or _natural_skew(case, block)
    return Routing(min(skew, capacity) if capacity else skew, _dropped(case, block, capacity))


def routed_block(model: ModelSpec) -> FeedForwardSpec | None:
    """The first block with routed experts."""
    blocks = [block for kind in model.layers for block in (kind.feed_forward, kind.shortcut) if block is not None]
    return next((block for block in blocks if block.experts), None)


def popularity_cv(case: TrainingCase, block: FeedForwardSpec) -> float:
    """Standard deviation of the experts' popularity over its mean; 0 where the router is forced to balance."""
    if case.routing_cv:
        return case.routing_cv
    return 0.0 if case.force_balanced or block.groups > 1 else assume.ROUTING_CV.value


def _natural_skew(case: TrainingCase, block: FeedForwardSpec) -> float:
    cv = popularity_cv(case, block)
    if not cv:
        return 1.0
    rows = rank_rows(case, block)
    return float(busiest_over_mean(rows, case.layout.ep, block.experts, cv, case.redundant_experts))


def rank_rows(case: TrainingCase, block: FeedForwardSpec) -> float:
    """Token-expert pairs of one microbatch that an expert rank computes on average."""
    layout = case.layout
    tokens = case.micro_batch * case.seq_len / (layout.cp * layout.tp)
    return tokens * effective_topk(block) * layout.etp


def _dropped(case: TrainingCase, block: FeedForwardSpec, capacity: float) -> float:
    if not capacity:
        return 0.0
    per_expert = rank_rows(case, block) * case.layout.ep / block.experts
    return dropped_share(per_expert, popularity_cv(case, block), capacity)


def reached_nodes(case: TrainingCase, block: FeedForwardSpec | None, nodes: float) -> float:
    """Most nodes that the experts of a token lie in when its expert group spans `nodes` (0 = no limit).

    The groups of a node-limited router are laid over the nodes in order: with fewer groups than nodes a group spans
    nodes / groups of them.
    """
    if case.routing_nodes:
        return float(case.routing_nodes)
    if block is None or block.router_kept >= block.router_groups:
        return 0.0
    return min(block.router_kept * max(nodes / block.router_groups, 1.0), nodes)
