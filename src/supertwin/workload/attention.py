"""Operators of attention: grouped-query and DeepSeek V4 here, latent and recurrent in their own modules."""

from __future__ import annotations

from supertwin.model.parameters import compressor_width
from supertwin.model.spec import AttentionSpec, ModelSpec
from supertwin.workload.block import gather_in, linear, stream_rows, vector
from supertwin.workload.core import context_exchange, core, local_heads, output_operators, stored_bytes_per_token
from supertwin.workload.latent import latent_operators
from supertwin.workload.operators import Operator, Real
from supertwin.workload.recurrent import recurrent_operators
from supertwin.workload.shard import Shard, Step
from supertwin.workload.sparse import indexer_operators

__all__ = ["attention_operators", "stored_bytes_per_token"]


def attention_operators(model: ModelSpec, block: AttentionSpec, step: Step, shard: Shard) -> list[Operator]:
    """Forward operators of one attention block, its exchange over tp and cp included; the norm is not."""
    if block.kind in ("linear", "mamba"):
        return recurrent_operators(model, block, step, shard)
    if block.kind == "mla":
        return latent_operators(model, block, step, shard)
    return grouped_operators(model, block, step, shard)


def grouped_operators(model: ModelSpec, block: AttentionSpec, step: Step, shard: Shard) -> list[Operator]:
    """Grouped-query attention, DeepSeek V4's shared-vector form included."""
    rows, hidden = step.tokens(shard), model.hidden
    heads, kv_heads = local_heads(block, shard)
    q_width, v_width = heads * block.qk_head_dim, heads * block.v_head_dim
    kv_width = kv_heads * block.qk_head_dim * block.kv_projections
    gate_width = v_width if block.gate else 0.0
    ops: list[Operator] = []
    if block.q_lora_rank:
        ops += query_by_rank(block, rows, hidden, (q_width, kv_width + compressor_width(block)), shard)
    else:
        ops += gather_in("attention/gather", rows, hidden, shard)
        ops.append(linear("attention/qkv", rows, (hidden, q_width + kv_width + gate_width), shard))
    ops += prologue(model, block, step, rows, (heads, kv_heads))
    ops += indexer_operators(block, step, shard, hidden)
    ops += context_exchange(block, step, shard, rows)
    ops.append(core(block, step, shard, (heads, kv_heads)))
    if block.gate:
        ops.append(
            vector(
                "attention/gate",
                "activation",
                (2 * rows * v_width, rows * v_width),
                flop=4 * rows * v_width,
                tokens=rows,
            )
        )
    return ops + output_operators(block, rows, hidden, heads, shard)


def query_by_rank(
    block: AttentionSpec, rows: Real, hidden: int, widths: tuple[Real, Real], shard: Shard
) -> list[Operator]:
    """Low-rank query and the narrow key-value map; widths = (query width here, width of the fused narrow map)."""
    rank = block.q_lora_rank
    own = stream_rows(rows, shard)
    return [
        linear("attention/down", own, (hidden, rank + widths[1]), shard),
        vector("attention/rank_norm", "norm", (own * (rank + widths[1]), own * (rank + widths[1])), tokens=own),
        *gather_in("attention/gather", rows, rank + widths[1], shard),
        linear("attention/q", rows, (rank, widths[0]), shard),
    ]


def prologue(
    model: ModelSpec, block: AttentionSpec, step: Step, rows: Real, heads: tuple[Real, Real]
) -> list[Operator]:
    """Norms of queries and keys, rotary positions and the write to the cache, in one pass."""
    caches = step.phase != "train"
    turns = model.positions == "rope" or block.qk_norm
    if not (caches or turns):
        return []
    q_values = rows * heads[0] * block.qk_head_dim * (1.0 if turns else 0.0)
    kv_values = rows * heads[1] * block.qk_head_dim * (block.kv_vectors if caches else 1)
    values = q_values + kv_values
    return [vector("attention/rope", "rope" if turns else "copy", (values, values), flop=6 * values, tokens=rows)]
