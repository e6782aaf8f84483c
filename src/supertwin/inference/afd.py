"""Attention and feed-forward on devices of their own (xAyF): who holds what, and what each side runs.

x attention instances and y feed-forward instances of `afd_unit` devices each. The attention side keeps the cache, the
projections, the router and both ends of the model, data-parallel in ranks of tp devices. The feed-forward side holds
routed experts over ep x etp devices, shared experts whole on every device and dense blocks cut over an instance. Tokens
go out and come home at every layer (MegaScale-Infer, arXiv 2504.02263; Step-3, arXiv 2507.19427; vllm-project
afd-plugin).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from supertwin.inference.balance import Slots, rank_skew
from supertwin.inference.case import Deployment
from supertwin.inference.engines import rebalances
from supertwin.inference.layers import Block, one_expert, spread_shared
from supertwin.inference.placement import Placement, Real
from supertwin.inference.shape import Shape
from supertwin.model.spec import FeedForwardSpec, LayerSpec, ModelSpec
from supertwin.network.exchange import distinct_places, token_bytes
from supertwin.workload.block import norm, vector
from supertwin.workload.feed_forward import effective_topk, feed_forward_operators, router_operators
from supertwin.workload.layer import embedding_operators, head_operators, layer_operators
from supertwin.workload.operators import ExpertMlp, Gemm, Operator
from supertwin.workload.shard import Shard, Step, maximum

_BETWEEN = ("moe/router", "moe/dispatch", "moe/combine", "moe/reduce", "moe/add")
"""Parts of a mixture that do not run on its devices: choice, ways and sums belong to the attention side."""


@dataclass(frozen=True, slots=True)
class Sides:
    """Groups of both sides: attention (tp, ranks) and feed-forward (ep, etp; tp = one instance for dense blocks)."""

    attention: Placement
    experts: Placement
    attention_devices: int
    expert_devices: int
    unit: int


@dataclass(frozen=True, slots=True)
class Hop:
    """One visit of the feed-forward side, `count` times per step and micro-batch.

    attention: before it; experts: there (None: the layer has no feed-forward block); out_bytes, home_bytes: what the
    busiest device sends or receives on the way there and back.
    """

    attention: Block
    experts: Block | None
    out_bytes: Real
    home_bytes: Real
    count: float


def sides(d: Deployment) -> Sides:
    """Groups that the deployment means. ep = 1 cuts every expert over the whole feed-forward side."""
    x, y = d.afd
    there = y * d.afd_unit
    ep = min(d.ep, there)
    attention = Placement(d.tp, 1, d.dp, 1, 1, 1, d.dp, x * d.afd_unit)
    return Sides(
        attention, Placement(d.afd_unit, 1, y, ep, there // ep, 1, 1, there), x * d.afd_unit, there, d.afd_unit
    )


def hops(model: ModelSpec, d: Deployment, shape: Shape, shard: Shard) -> Iterator[Hop]:
    """All visits of one micro-batch: layers by kind, then the draft passes, whose head runs on the attention side."""
    both = sides(d)
    model = spread_shared(model, both.experts, d.redundant_experts)
    for layer in model.layers:
        yield _hop(model, layer, (d, both), shape, shard)
    for number in range(min(d.mtp_tokens, 2)):
        single = shape if number == 0 else replace(shape, q_len=1.0)
        module = model.mtp if model.mtp is not None else replace(model.layers[0], count=1)
        hop = _hop(model, replace(module, count=1), (d, both), single, shard)
        ops = (*_join(model, single, shard), *hop.attention.operators, *head_operators(model, _step(single), shard))
        times = 1.0 if number == 0 else float(d.mtp_tokens - 1)
        yield replace(hop, attention=Block(ops, 1.0), count=times)


def ends(model: ModelSpec, shape: Shape, shard: Shard) -> Block:
    """Embedding, head and sampling of one micro-batch."""
    step = _step(shape)
    return Block((*embedding_operators(model, step, shard), *head_operators(model, step, shard)), 1.0)


def _step(shape: Shape) -> Step:
    return Step(phase="decode", sequences=shape.sequences, q_len=shape.q_len, kv_len=shape.kv_len)


def _join(model: ModelSpec, shape: Shape, shard: Shard) -> list[Operator]:
    return [
        Gemm(part="mtp/join", m=shape.tokens, n=float(model.hidden), k=2.0 * model.hidden, dtype=shard.linear_dtype)
    ]


def _hop(model: ModelSpec, layer: LayerSpec, about: tuple[Deployment, Sides], shape: Shape, shard: Shard) -> Hop:
    d, both = about
    own = [*layer_operators(model, replace(layer, feed_forward=None, shortcut=None), _step(shape), shard)]
    there: list[Operator] = []
    out: Real = 0.0
    home: Real = 0.0
    skew: Real = 1.0
    blocks = [b for b in (layer.feed_forward, layer.shortcut) if b is not None]
    own += [norm("norm/mlp", shape.tokens, float(model.hidden))] if blocks else []
    for block in blocks:
        if block.experts:
            skew = expert_skew(block, d, both, shape)
        own += _choice(model, block, shape, shard)
        there += _there(model, block, both, shape, replace(shard, expert_skew=skew))
        sent, returned = _ways(model, block, both, shape, (shard, skew))
        out, home = out + sent, home + returned
    count = float(layer.count)
    experts = Block(tuple(there), count, layer=True, skew=skew) if there else None
    return Hop(Block(tuple(own), count, layer=True), experts, out, home, count)


def expert_skew(block: FeedForwardSpec, d: Deployment, both: Sides, shape: Shape) -> Real:
    """Rows of the busiest expert rank over the mean, in one micro-batch."""
    ep = both.experts.ep
    if ep == 1 or block.groups > 1:
        return 1.0
    rows = shape.shared_tokens * effective_topk(block) / ep
    return rank_skew(
        rows, Slots(ep, block.experts, d.redundant_experts, rebalances(d.framework)), d.expert_balance, shape.prompts
    )


def _choice(model: ModelSpec, block: FeedForwardSpec, shape: Shape, shard: Shard) -> list[Operator]:
    """Router on the attention side, and the sum of the picks when they are home."""
    if not block.experts:
        return []
    own = shape.tokens / shard.tp
    summed = own * model.hidden
    return [
        *router_operators(model, block, own),
        vector("moe/add", "add", (summed * (block.topk + 1.0), summed), flop=summed * block.topk, tokens=own),
    ]


def _there(model: ModelSpec, block: FeedForwardSpec, both: Sides, shape: Shape, shard: Shard) -> list[Operator]:
    """Operators of one feed-forward device: tokens of all attention ranks, spread evenly over the devices."""
    if not block.experts:
        here = replace(shard, tp=both.unit, ep=1, etp=1, sequence_parallel=both.unit > 1)
        sequences = shape.shared_sequences / both.experts.dp
    else:
        here = replace(
            shard, tp=1, ep=both.experts.ep, etp=both.experts.etp, moe_transport="dispatch", sequence_parallel=False
        )
        sequences = shape.shared_sequences / both.expert_devices
    step = Step(phase="decode", sequences=sequences, q_len=shape.q_len, kv_len=shape.kv_len)
    ops = [o for o in feed_forward_operators(model, block, step, here) if o.part not in _BETWEEN]
    return [x for o in ops for x in (one_expert(o) if isinstance(o, ExpertMlp) else [o])]


def _ways(
    model: ModelSpec, block: FeedForwardSpec, both: Sides, shape: Shape, about: tuple[Shard, Real]
) -> tuple[Real, Real]:
    """Bytes of the busiest device on the way out and home. A token travels once to every expert rank that it picks (to
    one instance where the block is dense); devices that share an expert take a part of it each."""
    shard, skew = about
    copies: Real = distinct_places(float(both.experts.ep), effective_topk(block)) if block.experts else 1.0
    sending = shape.tokens * copies / shard.tp
    receiving = shape.shared_tokens * copies / both.expert_devices * skew
    most = maximum(sending, receiving)
    width = block.latent or model.hidden
    out: Real = most * token_bytes(width, shard.dispatch_dtype)
    home: Real = most * token_bytes(width, shard.combine_dtype)
    return out, home
