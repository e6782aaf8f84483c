"""Operators of dense and mixture-of-experts feed-forward blocks.

With T tokens per attention rank, tp ranks inside it and experts spread over ep x etp devices, a device computes
T x topk x etp / tp rows on average, whatever the number of attention ranks that share the experts.
"""

from __future__ import annotations

from supertwin.model.spec import FeedForwardSpec, ModelSpec
from supertwin.workload.block import WIDE, bytes_of, exchange, gather_in, linear, plain, reduce_out, stream_rows, vector
from supertwin.workload.operators import Communication, ExpertMlp, Gemm, Operator, Real
from supertwin.workload.shard import Shard, Step, present


def feed_forward_operators(model: ModelSpec, block: FeedForwardSpec, step: Step, shard: Shard) -> list[Operator]:
    """Forward operators of one feed-forward block with its communication; the norm is not included."""
    if block.experts:
        return mixture_operators(model, block, step, shard)
    rows = step.tokens(shard)
    ops = gather_in("mlp/gather", rows, model.hidden, shard)
    ops += dense_operators("mlp", rows, (model.hidden, block.inter / shard.tp), block, shard)
    return ops + reduce_out("mlp/reduce", rows, model.hidden, shard)


def dense_operators(
    part: str, rows: Real, shape: tuple[Real, Real], block: FeedForwardSpec, shard: Shard
) -> list[Operator]:
    """Up (and gate), activation, down for a weight of shape (hidden, inter here)."""
    hidden, inter = shape
    wide = inter * (2 if block.gated else 1)
    return [
        linear(f"{part}/up", rows, (hidden, wide), shard),
        vector(f"{part}/act", "activation", (rows * wide, rows * inter), flop=rows * inter * 6, tokens=rows),
        linear(f"{part}/down", rows, (inter, hidden), shard),
    ]


def effective_topk(block: FeedForwardSpec) -> float:
    """Routed experts per token that compute (zero experts take their share of the picks)."""
    return block.topk * block.experts / (block.experts + block.zero_experts)


def expert_rows(block: FeedForwardSpec, rows: Real, shard: Shard) -> Real:
    """Token-expert pairs on one device, mean over devices."""
    return rows * effective_topk(block) * shard.etp / shard.tp


def router_operators(model: ModelSpec, block: FeedForwardSpec, tokens: Real) -> list[Operator]:
    """Scores of all experts and the choice among them."""
    return [
        plain("moe/router", tokens, (model.hidden, block.experts + block.zero_experts)),
        vector(
            "moe/router",
            "router",
            (tokens * block.experts * 2, tokens * block.topk * 4),
            flop=tokens * block.experts * 8,
            tokens=tokens,
        ),
    ]


def mixture_operators(model: ModelSpec, block: FeedForwardSpec, step: Step, shard: Shard) -> list[Operator]:
    """Router, shared experts, traffic, routed experts, and the way back."""
    rows = step.tokens(shard)
    replicated = shard.moe_transport in ("all_reduce", "all_gather") and not shard.sequence_parallel
    own = rows if replicated else rows / shard.tp
    width = block.latent or model.hidden
    ops = router_operators(model, block, own)
    ops += shared_operators(model, block, rows, own, shard)
    if block.latent:
        ops.append(linear("moe/latent", own, (model.hidden, width), shard))
    ops += [*outward(block, rows, width, shard), *expert_operators(block, rows, width, shard)]
    ops += homeward(block, rows, width, shard)
    if block.latent:
        ops.append(linear("moe/latent", own, (width, model.hidden), shard))
    return ops + settle(model, block, rows, shard)


def shared_operators(model: ModelSpec, block: FeedForwardSpec, rows: Real, own: Real, shard: Shard) -> list[Operator]:
    """Shared experts: cut over tp like a dense block, or whole on a rank's own tokens beside a dispatch."""
    if not block.shared_inter:
        return []
    if shared_is_whole(shard):
        return dense_operators("moe/shared", own, (model.hidden, float(block.shared_inter)), block, shard)
    ops = gather_in("moe/shared_gather", rows, model.hidden, shard)
    ops += dense_operators("moe/shared", rows, (model.hidden, block.shared_inter / shard.tp), block, shard)
    return ops + (reduce_out("moe/shared_reduce", rows, model.hidden, shard) if shard.sequence_parallel else [])


def shared_is_whole(shard: Shard) -> bool:
    """Whether every rank holds whole shared experts (inference beside dispatch kernels or all-to-all)."""
    return shard.moe_transport in ("dispatch", "all_to_all") and not shard.sequence_parallel


def traffic(op: str, block: FeedForwardSpec, rows: Real, width: Real, shard: Shard) -> Communication:
    """Dispatch or combine over ep: each rank of the attention group sends its own share of the tokens."""
    dtype = shard.combine_dtype if op == "combine" else shard.dispatch_dtype
    own, topk = rows / shard.tp * present(shard.ep), effective_topk(block)
    message = own * topk * width * bytes_of(dtype)
    part = "moe/combine" if op == "combine" else "moe/dispatch"
    kind = op if shard.moe_transport == "dispatch" else "all_to_all"
    return Communication(
        part=part, op=kind, axis="ep", message_bytes=message, tokens=own, hidden=width, topk=topk, dtype=dtype
    )


def outward(block: FeedForwardSpec, rows: Real, width: Real, shard: Shard) -> list[Operator]:
    """Tokens to their experts."""
    if shard.moe_transport == "all_reduce":
        return []
    if shard.moe_transport == "all_gather":
        size = shard.ep * shard.etp
        message = rows * size / shard.tp * width * bytes_of(shard.dispatch_dtype)
        return [exchange("moe/dispatch", "all_gather", "ep", message, size / shard.tp)]
    ops: list[Operator] = [traffic("dispatch", block, rows, width, shard)]
    gathered = expert_rows(block, rows, shard) * width * 2.0
    return [*ops, exchange("moe/etp_gather", "all_gather", "etp", gathered, shard.etp)]


def homeward(block: FeedForwardSpec, rows: Real, width: Real, shard: Shard) -> list[Operator]:
    """Results back to their tokens."""
    if shard.moe_transport == "all_reduce":
        return []
    if shard.moe_transport == "all_gather":
        size = shard.ep * shard.etp
        message = rows * size / shard.tp * width * bytes_of(shard.combine_dtype)
        return [exchange("moe/combine", "reduce_scatter", "ep", message, size / shard.tp)]
    scattered = expert_rows(block, rows, shard) * width * 2.0
    return [
        exchange("moe/etp_reduce", "reduce_scatter", "etp", scattered, shard.etp),
        traffic("combine", block, rows, width, shard),
    ]


def settle(model: ModelSpec, block: FeedForwardSpec, rows: Real, shard: Shard) -> list[Operator]:
    """Sum of routed and shared results, and the exchange that makes all tp ranks whole again."""
    own = stream_rows(rows, shard)
    ops: list[Operator] = []
    if block.shared_inter:
        values = own * model.hidden
        ops.append(vector("moe/add", "add", (2 * values, values), flop=values, fused=shard.fused_experts, tokens=own))
    if shard.sequence_parallel:
        return ops
    message = rows * model.hidden * 2.0
    op = "all_gather" if shared_is_whole(shard) else "all_reduce"
    return [*ops, exchange("moe/reduce", op, "tp", message, shard.tp)]


def expert_operators(block: FeedForwardSpec, rows: Real, width: Real, shard: Shard) -> list[Operator]:
    """Routed experts of one device: one fused call, or permute, grouped products and unpermute."""
    here = (block.experts + shard.redundant_experts) / shard.ep
    pairs, inter = expert_rows(block, rows, shard), block.inter / shard.etp
    if shard.fused_experts:
        routed = shard.moe_transport in ("all_reduce", "all_gather")
        return [
            ExpertMlp(
                part="moe/experts",
                rows=pairs,
                experts=here,
                hidden=width,
                inter=inter,
                gated=block.gated,
                dtype=shard.expert_dtype,
                weight_dtype=shard.expert_weight_dtype,
                skew=shard.expert_skew,
                distribution="balanced" if block.groups > 1 else shard.expert_distribution,
                routing=routed,
                tokens=pairs * shard.ep / block.topk if routed else 0.0,  # every device of the group sees them all
            )
        ]
    return grouped_products(block, (pairs, here), (width, inter), shard)


def grouped_products(
    block: FeedForwardSpec, load: tuple[Real, Real], shape: tuple[Real, Real], shard: Shard
) -> list[Operator]:
    """Permute, grouped up, activation, grouped down, unpermute; load = (rows, experts), shape = (width, inter)."""
    pairs, here = load
    width, inter = shape
    wide = inter * (2 if block.gated else 1)
    return [
        vector("moe/permute", "permute", (pairs * width, pairs * width)),
        expert_product("moe/experts", (pairs / here, here), (width, wide), shard),
        vector("moe/act", "activation", (pairs * wide, pairs * inter), flop=pairs * inter * 6),
        expert_product("moe/experts", (pairs / here, here), (inter, width), shard),
        vector("moe/permute", "permute", (pairs * width, pairs * width), flop=pairs * width * 2),
    ]


def expert_product(part: str, load: tuple[Real, Real], shape: tuple[Real, Real], shard: Shard) -> Gemm:
    """One grouped GEMM; load = (rows per expert, experts)."""
    return Gemm(
        part=part,
        m=load[0],
        n=shape[1],
        k=shape[0],
        groups=load[1],
        dtype=shard.expert_dtype,
        weight_dtype=shard.expert_weight_dtype,
        quantize_input=shard.quantize_input and shard.expert_dtype not in WIDE,
    )
