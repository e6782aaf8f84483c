"""Operators of multi-head latent attention (MLA).

Full keys and values in training and prefill (qk 192, v 128); absorbed in decode: one stored vector of 576, of which 512
are the value, and two batched products that move the query into and the result out of latent space (arXiv 2405.04434
section 2.1, FlashMLA). Sparse attention runs absorbed in every phase.
"""

from __future__ import annotations

from supertwin.model.spec import AttentionSpec, ModelSpec
from supertwin.workload.block import exchange, gather_in, linear, plain, stream_rows, vector
from supertwin.workload.core import (
    context_exchange,
    held_rows,
    keys_seen,
    local_heads,
    output_operators,
    query_share,
)
from supertwin.workload.operators import Attention, Operator, Real, changed
from supertwin.workload.shard import Shard, Step, maximum
from supertwin.workload.sparse import indexer_operators


def latent_operators(model: ModelSpec, block: AttentionSpec, step: Step, shard: Shard) -> list[Operator]:
    """Multi-head latent attention."""
    if shard.context == "staged" and step.phase == "prefill":
        return staged_operators(model, block, step, shard)
    rows, hidden = step.tokens(shard), model.hidden
    own = stream_rows(rows, shard)
    heads, _ = local_heads(block, shard)
    stored = block.kv_lora_rank + block.qk_rope_head_dim
    absorbed = step.phase == "decode" or block.index_topk > 0
    ops: list[Operator] = [
        linear("attention/down", own, (hidden, block.q_lora_rank + stored), shard),
        vector("attention/rank_norm", "norm", (own * (block.q_lora_rank + stored),) * 2, tokens=own),
    ]
    wide = (block.q_lora_rank or hidden) + (hidden if block.gate and block.q_lora_rank else 0)
    ops += gather_in("attention/gather", rows, wide + stored, shard)
    ops.append(linear("attention/q", rows, (block.q_lora_rank or hidden, heads * block.qk_head_dim), shard))
    if block.gate:
        ops.append(linear("attention/gate", rows, (hidden, heads * block.v_head_dim), shard))
    turned = rows * (heads * block.qk_rope_head_dim + stored)
    ops.append(vector("attention/rope", "rope", (turned, turned), flop=3 * turned, tokens=rows))
    ops += indexer_operators(block, step, shard, hidden)
    body = absorbed_core if absorbed else full_core
    ops += body(block, step, shard, heads)
    if block.gate:
        width = rows * heads * block.v_head_dim
        ops.append(vector("attention/gate", "activation", (2 * width, width), flop=4 * width, tokens=rows))
    return ops + output_operators(block, rows, hidden, heads, shard)


def staged_operators(model: ModelSpec, block: AttentionSpec, step: Step, shard: Shard) -> list[Operator]:
    """Prompts packed and cut over cp ranks in three stages (CM384 paper, arXiv 2506.12708v2 section 4.3.1).

    Narrow maps on even shares of all tokens (sequence parallel); an all-gather of what they made; wide maps and
    attention of heads / cp heads over all tokens (tensor parallel), whatever the lengths of the prompts; an all-to-all
    back to shares of the tokens for the output map. Cached latent vectors lie on the rank of their token and are
    gathered too.
    """
    own, hidden = step.tokens(shard), model.hidden
    packed = own * shard.cp
    heads, _ = local_heads(block, shard)
    here = heads / shard.cp
    stored = block.kv_lora_rank + block.qk_rope_head_dim
    rank = block.q_lora_rank or hidden
    keys = step.sequences * step.kv_len
    gathered = packed * rank + keys * stored
    turned = packed * here * block.qk_rope_head_dim + own * stored
    wide = here * (block.qk_nope_head_dim + block.v_head_dim)
    out_values = packed * here * block.v_head_dim
    ops: list[Operator] = [
        linear("attention/down", own, (hidden, block.q_lora_rank + stored), shard),
        vector("attention/rank_norm", "norm", (own * (block.q_lora_rank + stored),) * 2),
        exchange("attention/context", "all_gather", "cp", gathered * 2.0, shard.cp),
        linear("attention/q", packed, (rank, here * block.qk_head_dim), shard),
        vector("attention/rope", "rope", (turned, turned), flop=3 * turned),
        linear("attention/kv", keys, (block.kv_lora_rank, wide), shard),
        latent_core(block, step, shard, heads, (block.qk_head_dim, block.v_head_dim)),
        exchange("attention/heads", "all_to_all", "cp", out_values * 2.0, shard.cp),
    ]
    if block.gate:
        width = own * heads * block.v_head_dim
        ops.append(linear("attention/gate", own, (hidden, heads * block.v_head_dim), shard))
        ops.append(vector("attention/gate", "activation", (2 * width, width), flop=4 * width))
    return ops + output_operators(block, own, hidden, heads, shard)


def absorbed_core(block: AttentionSpec, step: Step, shard: Shard, heads: Real) -> list[Operator]:
    """Queries into latent space, attention over the stored vectors, results out of latent space."""
    rows, rank = step.tokens(shard), block.kv_lora_rank
    attend = changed(
        latent_core(block, step, shard, heads, (rank + block.qk_rope_head_dim, rank)),
        kv_heads=1.0,
        phase="decode" if step.phase == "decode" else "prefill",
        kv_dtype=shard.kv_dtype if step.phase != "train" else shard.attention_dtype,
        latent=True,
        gathered=block.index_topk > 0,
    )
    return [
        plain("attention/absorb_q", rows, (block.qk_nope_head_dim, rank), heads),
        *latent_context(block, step, shard, rows),
        attend,
        plain("attention/absorb_v", rows, (rank, block.v_head_dim), heads),
    ]


def latent_core(block: AttentionSpec, step: Step, shard: Shard, heads: Real, sizes: tuple[Real, Real]) -> Attention:
    """Scores, softmax and weighted sum over keys and values of every head; sizes: (query and key, value) of one."""
    keys, causal = keys_seen(block, step, shard)
    queries, split = query_share(step, shard)
    return Attention(
        part="attention/core",
        batch=step.sequences,
        q_len=queries,
        kv_len=keys,
        heads=heads / split,
        kv_heads=heads / split,
        qk_head_dim=sizes[0],
        v_head_dim=sizes[1],
        causal=causal,
        dtype=shard.attention_dtype,
        kv_dtype=shard.attention_dtype,
    )


def latent_context(block: AttentionSpec, step: Step, shard: Shard, rows: Real) -> list[Operator]:
    """Context parallelism of stored vectors: in decode as for heads, else they are gathered or travel around a ring."""
    if step.phase == "decode":
        return context_exchange(block, step, shard, rows)
    stored = held_rows(step, shard, rows) * (block.kv_lora_rank + block.qk_rope_head_dim)
    if shard.context == "ring" and step.phase == "prefill":
        turn = exchange("attention/context", "p2p", "cp", stored * 2.0, shard.cp)
        return [changed(turn, count=maximum(shard.cp - 1, 1.0))]
    return [exchange("attention/context", "all_gather", "cp", stored * 2.0 * shard.cp, shard.cp)]


def full_core(block: AttentionSpec, step: Step, shard: Shard, heads: Real) -> list[Operator]:
    """Keys and values of all heads from the latent vectors (cached ones too), then plain attention.

    With context = all_gather, and around the ring of a prefill, the latent vectors travel and every rank makes all
    keys; else keys and values travel.
    """
    rows = step.tokens(shard)
    gathers = shard.context == "all_gather" or (shard.context == "ring" and step.phase == "prefill")
    made = step.sequences * step.kv_len if gathers else held_rows(step, shard, rows)
    width = heads * (block.qk_nope_head_dim + block.v_head_dim)
    attend = latent_core(block, step, shard, heads, (block.qk_head_dim, block.v_head_dim))
    up = linear("attention/kv", made, (block.kv_lora_rank, width), shard)
    if gathers:
        return [*latent_context(block, step, shard, rows), up, attend]
    return [up, *context_exchange(block, step, shard, rows), attend]
