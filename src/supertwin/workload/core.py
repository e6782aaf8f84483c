"""What all kinds of attention share: heads here, keys seen, the kernel, context parallelism, output, cache."""

from __future__ import annotations

from dataclasses import replace

from supertwin.model.spec import AttentionSpec
from supertwin.workload.block import bytes_of, exchange, linear, reduce_out
from supertwin.workload.operators import Attention, Operator, Real
from supertwin.workload.shard import Shard, Step, above, ceiling, chunk_pairs, maximum, mean_keys, minimum


def local_heads(block: AttentionSpec, shard: Shard) -> tuple[Real, Real]:
    """(query heads, key-value heads) on a device; key-value heads are copied where there are fewer than ranks."""
    return ceiling(block.heads / shard.tp), maximum(ceiling(block.kv_heads / shard.tp), 1.0)


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
    # a balanced share of the queries against the keys: q/ring queries see kv - q/2 keys on average
    ring = shard.cp / shard.head_ranks
    return (kv - q / 2 + q / (2 * ring) if shard.balanced_context else kv), True


def chunk_keys(step: Step, chunk: int) -> Real:
    """Mean keys of chunked-local attention: a query sees its own chunk up to itself.

    Decode beyond the first chunk takes the mean over positions: a small change of the context must not jump a chunk.
    """
    if step.phase == "decode":
        return minimum(step.kv_len, chunk) - (chunk - 1) / 2 * above(step.kv_len, chunk)
    past = step.kv_len - step.q_len
    return (chunk_pairs(step.kv_len, chunk) - chunk_pairs(past, chunk)) / step.q_len


def query_share(step: Step, shard: Shard) -> tuple[Real, Real]:
    """(queries per sequence, divisor of the heads) on a context-parallel rank; decode gathers the queries of all."""
    if step.phase == "decode":
        return step.q_len, 1.0 / shard.cp
    return step.q_len * shard.head_ranks / shard.cp, shard.head_ranks * 1.0


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
        kv_heads=maximum(heads[1] / maximum(split, 1.0), 1.0),
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


def context_exchange(block: AttentionSpec, step: Step, shard: Shard, rows: Real) -> list[Operator]:
    """What context parallelism moves: keys and values around a ring (or gathered), or heads for sequence (Ulysses).

    Decode: queries are gathered and partial results reduced (decode context parallelism).
    """
    heads, kv_heads = local_heads(block, shard)
    if block.kind == "mla":
        kv_values: Real = rows * heads * (block.qk_head_dim + block.v_head_dim)
    else:
        kv_values = held_rows(step, shard, rows) * kv_heads * block.qk_head_dim * block.kv_vectors
    q_values = rows * heads * block.qk_head_dim
    if step.phase == "decode":
        out = rows * heads * block.v_head_dim * 2.0 * shard.cp
        return [
            exchange("attention/context", "all_gather", "cp", q_values * 2.0 * shard.cp, shard.cp),
            exchange("attention/context", "reduce_scatter", "cp", out, shard.cp),
        ]
    out = rows * heads * block.v_head_dim * 2.0
    if shard.context == "ulysses":
        swapped = (q_values + kv_values * kv_copies(kv_heads, shard.cp)) * 2.0 + out
        return [exchange("attention/context", "all_to_all", "cp", swapped, shard.cp)]
    if shard.context == "hybrid":
        ring = shard.cp / shard.ulysses
        swapped = (q_values + kv_values * kv_copies(kv_heads, shard.ulysses)) * 2.0 + out
        swap = exchange("attention/context", "all_to_all", "cp_inner", swapped, shard.ulysses)
        turn = exchange("attention/context", "p2p", "cp_outer", kv_values * 2.0, ring)
        return [swap, replace(turn, count=maximum(ring - 1, 1.0))]
    if shard.context == "all_gather":
        return [exchange("attention/context", "all_gather", "cp", kv_values * 2.0 * shard.cp, shard.cp)]
    turn = exchange("attention/context", "p2p", "cp", kv_values * 2.0, shard.cp)
    return [replace(turn, count=maximum(shard.cp - 1, 1.0))]


def held_rows(step: Step, shard: Shard, rows: Real) -> Real:
    """Tokens whose keys a context-parallel rank holds: its new ones and its share of the cached ones."""
    if step.phase != "prefill":
        return rows
    return step.sequences * step.kv_len / shard.cp


def kv_copies(kv_heads: Real, ranks: Real) -> Real:
    """Copies of each key-value head before Ulysses' exchange: every rank needs one of its own (arXiv 2309.14509;
    MindSpeed, --kv-head-repeat-before-uly-alltoall)."""
    return maximum(ranks / kv_heads, 1.0)


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
