"""Operators of attention: grouped-query, latent (MLA), sparse (indexer) and compressed (DeepSeek V4).

Latent attention runs with full keys and values in training and prefill (qk 192, v 128) and absorbed in decode (one
stored vector of 576, of which 512 are the value; two batched products move the query into and the result out of
latent space): arXiv 2405.04434 section 2.1, FlashMLA. Sparse attention runs absorbed in every phase.
"""

from __future__ import annotations

from supertwin.model.parameters import compressor_width
from supertwin.model.spec import AttentionSpec, ModelSpec
from supertwin.workload.block import bytes_of, exchange, gather_in, linear, plain, reduce_out, stream_rows, vector
from supertwin.workload.operators import Attention, Operator, Real
from supertwin.workload.recurrent import recurrent_operators
from supertwin.workload.shard import Shard, Step, ceiling, maximum, mean_keys, minimum


def attention_operators(model: ModelSpec, block: AttentionSpec, step: Step, shard: Shard) -> list[Operator]:
    """Forward operators of one attention block, its exchange over tp and cp included; the norm is not."""
    if block.kind in ("linear", "mamba"):
        return recurrent_operators(model, block, step, shard)
    if block.kind == "mla":
        return latent_operators(model, block, step, shard)
    return grouped_operators(model, block, step, shard)


def local_heads(block: AttentionSpec, shard: Shard) -> tuple[Real, Real]:
    """(query heads, key-value heads) on a device; key-value heads are copied where there are fewer than ranks."""
    return ceiling(block.heads / shard.tp), maximum(ceiling(block.kv_heads / shard.tp), 1.0)


def grouped_operators(model: ModelSpec, block: AttentionSpec, step: Step, shard: Shard) -> list[Operator]:
    """Grouped-query attention, DeepSeek V4's shared-vector form included."""
    rows, hidden = step.tokens(shard), model.hidden
    heads, kv_heads = local_heads(block, shard)
    q_width, v_width = heads * block.qk_head_dim, heads * block.v_head_dim
    kv_width = kv_heads * block.qk_head_dim * block.kv_projections
    gate_width = v_width if block.gate else 0.0
    ops = gather_in("attention/gather", rows, hidden, shard)
    if block.q_lora_rank:
        ops += query_by_rank(block, rows, hidden, (q_width, kv_width + compressor_width(block)), shard)
    else:
        ops.append(linear("attention/qkv", rows, (hidden, q_width + kv_width + gate_width), shard))
    ops += prologue(model, block, step, rows, (heads, kv_heads))
    ops += indexer_operators(block, step, shard, hidden)
    ops += context_exchange(block, step, shard, rows)
    ops.append(core(block, step, shard, (heads, kv_heads)))
    if block.gate:
        ops.append(
            vector("attention/gate", "activation", (2 * rows * v_width, rows * v_width), flop=4 * rows * v_width)
        )
    return ops + output_operators(block, rows, hidden, heads, shard)


def output_operators(block: AttentionSpec, rows: Real, hidden: int, heads: Real, shard: Shard) -> list[Operator]:
    """Output projection (grouped low-rank in V4) and the sum over tp."""
    width = heads * block.v_head_dim
    if block.output_lora_rank:
        groups = maximum(ceiling(block.output_groups / shard.tp), 1.0)
        rank = block.output_lora_rank
        ops: list[Operator] = [
            linear("attention/out_a", rows, (width / groups, rank), shard, groups),
            linear("attention/out", rows, (groups * rank, hidden), shard),
        ]
    else:
        ops = [linear("attention/out", rows, (width, hidden), shard)]
    return ops + reduce_out("attention/reduce", rows, hidden, shard)


def query_by_rank(
    block: AttentionSpec, rows: Real, hidden: int, widths: tuple[Real, Real], shard: Shard
) -> list[Operator]:
    """Low-rank query and the narrow key-value map; widths = (query width here, width of the fused narrow map)."""
    rank = block.q_lora_rank
    own = stream_rows(rows, shard)
    return [
        linear("attention/down", own, (hidden, rank + widths[1]), shard),
        vector("attention/rank_norm", "norm", (own * (rank + widths[1]), own * (rank + widths[1]))),
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
    return [vector("attention/rope", "rope" if turns else "copy", (values, values), flop=6 * values)]


def keys_seen(block: AttentionSpec, step: Step, shard: Shard) -> tuple[Real, bool]:
    """(keys that the attention kernel is given, whether the causal mask still cuts them).

    Windows stay a mask of the kernel in prefill and a shorter cache in decode. Chunks, picked keys and compressed
    entries are counted as the mean number of keys per query, without a mask.
    """
    q, kv = step.q_len, step.kv_len
    if block.compress_ratio > 1:
        entries = kv / block.compress_ratio
        far = minimum(entries, block.index_topk) if block.index_topk else entries
        shown = mean_keys(q, kv, far * block.compress_ratio) / block.compress_ratio
        return shown + mean_keys(q, kv, block.window), False
    if block.index_topk:
        return mean_keys(q, kv, block.index_topk) if step.causal else minimum(kv, block.index_topk), False
    if block.chunk:
        return chunk_keys(step, block.chunk), False
    if step.phase == "decode":
        window = block.window + step.q_len - 1 if block.window else kv
        return minimum(kv, window) / shard.cp, step.causal
    if not step.causal:
        return kv, False
    # a balanced share of the queries against the keys: q/cp queries see kv - q/2 keys on average
    ulysses = shard.context == "ulysses"
    return (kv if ulysses else kv - q / 2 + q / (2 * shard.cp)), True


def chunk_keys(step: Step, chunk: int) -> Real:
    """Mean keys of chunked-local attention: half a chunk in a long prompt, the rest of the last chunk in decode."""
    inside = minimum(step.kv_len, chunk)
    return (inside + 1) / 2


def core(block: AttentionSpec, step: Step, shard: Shard, heads: tuple[Real, Real]) -> Attention:
    """Scores, softmax and weighted sum of grouped-query attention."""
    keys, causal = keys_seen(block, step, shard)
    queries, split = query_share(step, shard)
    return Attention(
        part="attention/core",
        batch=step.sequences,
        q_len=queries,
        kv_len=keys,
        heads=heads[0] / split,
        kv_heads=maximum(heads[1] / split, 1.0),
        qk_head_dim=block.qk_head_dim,
        v_head_dim=block.v_head_dim,
        causal=causal,
        window=block.window if causal and step.phase != "decode" else 0.0,
        phase="decode" if step.phase == "decode" else "prefill",
        dtype=shard.attention_dtype,
        kv_dtype=shard.kv_dtype if step.phase != "train" else shard.attention_dtype,
        latent=block.kv_vectors == 1,
        gathered=block.index_topk > 0,
    )


def query_share(step: Step, shard: Shard) -> tuple[Real, Real]:
    """(queries per sequence, divisor of the heads) on a context-parallel rank."""
    if step.phase == "decode":
        return step.q_len, 1.0
    if shard.context == "ulysses":
        return step.q_len, shard.cp
    return step.q_len / shard.cp, 1.0


def context_exchange(block: AttentionSpec, step: Step, shard: Shard, rows: Real) -> list[Operator]:
    """What context parallelism moves: keys and values around a ring (or gathered), or heads for sequence (Ulysses).

    Decode: queries are gathered and partial results reduced (decode context parallelism).
    """
    heads, kv_heads = local_heads(block, shard)
    if block.kind == "mla":
        kv_values: Real = rows * heads * (block.qk_head_dim + block.v_head_dim)
    else:
        kv_values = rows * kv_heads * block.qk_head_dim * block.kv_vectors
    q_values = rows * heads * block.qk_head_dim
    if step.phase == "decode":
        out = rows * heads * block.v_head_dim * 2.0 * shard.cp
        return [
            exchange("attention/context", "all_gather", "cp", q_values * 2.0 * shard.cp, shard.cp),
            exchange("attention/context", "reduce_scatter", "cp", out, shard.cp),
        ]
    if shard.context == "ulysses":
        out = rows * heads * block.v_head_dim * 2.0
        return [exchange("attention/context", "all_to_all", "cp", (q_values + kv_values) * 2.0 + out, shard.cp)]
    if shard.context == "all_gather":
        return [exchange("attention/context", "all_gather", "cp", kv_values * 2.0 * shard.cp, shard.cp)]
    return [exchange("attention/context", "p2p", "cp", kv_values * 2.0 * (shard.cp - 1), shard.cp)]


def indexer_operators(block: AttentionSpec, step: Step, shard: Shard, hidden: int) -> list[Operator]:
    """Lightning indexer: query map, head weights, scores against all (compressed) keys and the choice of the best.

    Replicated over tp. The scores read one shared key per position and sum over the index heads: an attention call
    with one shared vector and a value of width one. Keys are kept in FP8 in inference.
    """
    if not block.index_heads:
        return []
    rows = step.tokens(shard)
    own = stream_rows(rows, shard)
    width, ratio = block.index_head_dim, block.compress_ratio
    key_width = width * (4 if ratio > 1 else 1)
    entries = step.kv_len / ratio
    picked = own * (mean_keys(step.q_len, step.kv_len, step.kv_len) / ratio if step.causal else entries)
    inference = step.phase != "train"
    queries, _ = query_share(step, shard)
    scores = Attention(
        part="attention/index",
        batch=step.sequences,
        q_len=queries,
        kv_len=entries,
        heads=block.index_heads,
        kv_heads=1.0,
        qk_head_dim=width,
        v_head_dim=1.0,
        causal=step.causal and ratio == 1,
        phase="decode" if step.phase == "decode" else "prefill",
        dtype="fp8" if inference else "bf16",
        kv_dtype="fp8" if inference else "bf16",
        latent=True,
    )
    return [
        linear("attention/index", own, (block.q_lora_rank, block.index_heads * width), shard),
        plain("attention/index", own, (hidden, key_width + block.index_heads)),
        vector("attention/index", "norm", (own * (key_width + block.index_heads * width), own * width)),
        scores,
        vector("attention/topk", "topk", (2 * picked, 2 * own * minimum(block.index_topk, entries)), flop=2 * picked),
    ]


def latent_operators(model: ModelSpec, block: AttentionSpec, step: Step, shard: Shard) -> list[Operator]:
    """Multi-head latent attention."""
    rows, hidden = step.tokens(shard), model.hidden
    own = stream_rows(rows, shard)
    heads, _ = local_heads(block, shard)
    stored = block.kv_lora_rank + block.qk_rope_head_dim
    absorbed = step.phase == "decode" or block.index_topk > 0
    ops: list[Operator] = [
        linear("attention/down", own, (hidden, block.q_lora_rank + stored), shard),
        vector("attention/rank_norm", "norm", (own * (block.q_lora_rank + stored),) * 2),
    ]
    ops += gather_in("attention/gather", rows, (block.q_lora_rank or hidden) + stored, shard)
    ops.append(linear("attention/q", rows, (block.q_lora_rank or hidden, heads * block.qk_head_dim), shard))
    if block.gate:
        ops.append(linear("attention/gate", rows, (hidden, heads * block.v_head_dim), shard))
    turned = rows * (heads * block.qk_rope_head_dim + stored)
    ops.append(vector("attention/rope", "rope", (turned, turned), flop=3 * turned))
    ops += indexer_operators(block, step, shard, hidden)
    body = absorbed_core if absorbed else full_core
    ops += body(block, step, shard, heads)
    if block.gate:
        width = rows * heads * block.v_head_dim
        ops.append(vector("attention/gate", "activation", (2 * width, width), flop=4 * width))
    return ops + output_operators(block, rows, hidden, heads, shard)


def absorbed_core(block: AttentionSpec, step: Step, shard: Shard, heads: Real) -> list[Operator]:
    """Queries into latent space, attention over the stored vectors, results out of latent space."""
    rows, rank = step.tokens(shard), block.kv_lora_rank
    keys, causal = keys_seen(block, step, shard)
    queries, split = query_share(step, shard)
    attend = Attention(
        part="attention/core",
        batch=step.sequences,
        q_len=queries,
        kv_len=keys,
        heads=heads / split,
        kv_heads=1.0,
        qk_head_dim=rank + block.qk_rope_head_dim,
        v_head_dim=rank,
        causal=causal,
        phase="decode" if step.phase == "decode" else "prefill",
        dtype=shard.attention_dtype,
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


def latent_context(block: AttentionSpec, step: Step, shard: Shard, rows: Real) -> list[Operator]:
    """Context parallelism of absorbed attention: in decode as for heads, else the stored vectors are gathered."""
    if step.phase == "decode":
        return context_exchange(block, step, shard, rows)
    stored = rows * (block.kv_lora_rank + block.qk_rope_head_dim)
    return [exchange("attention/context", "all_gather", "cp", stored * 2.0 * shard.cp, shard.cp)]


def full_core(block: AttentionSpec, step: Step, shard: Shard, heads: Real) -> list[Operator]:
    """Keys and values of all heads from the latent vectors (cached ones too), then plain attention."""
    rows = step.tokens(shard)
    cached = step.sequences * (step.kv_len - step.q_len)
    width = heads * (block.qk_nope_head_dim + block.v_head_dim)
    keys, causal = keys_seen(block, step, shard)
    queries, split = query_share(step, shard)
    attend = Attention(
        part="attention/core",
        batch=step.sequences,
        q_len=queries,
        kv_len=keys,
        heads=heads / split,
        kv_heads=heads / split,
        qk_head_dim=block.qk_head_dim,
        v_head_dim=block.v_head_dim,
        causal=causal,
        dtype=shard.attention_dtype,
        kv_dtype=shard.attention_dtype,
    )
    up = linear("attention/kv", rows + cached, (block.kv_lora_rank, width), shard)
    return [up, *context_exchange(block, step, shard, rows), attend]


def stored_bytes_per_token(block: AttentionSpec, shard: Shard) -> Real:
    """Bytes that one token of context adds to the cache of a device (all kinds; recurrent blocks 0)."""
    if block.kind == "mla":
        own: Real = (block.kv_lora_rank + block.qk_rope_head_dim) * bytes_of(shard.kv_dtype)
    elif block.kind == "gqa":
        _, kv_heads = local_heads(block, shard)
        own = kv_heads * block.qk_head_dim * block.kv_vectors * bytes_of(shard.kv_dtype) / block.compress_ratio
    else:
        return 0.0
    index = block.index_head_dim * bytes_of("fp8-blockwise") / block.compress_ratio if block.index_heads else 0.0
    return own + index
