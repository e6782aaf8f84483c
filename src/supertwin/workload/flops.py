"""Useful arithmetic per token, as MFU counts it."""

from __future__ import annotations

from supertwin.core.errors import InputError
from supertwin.model.parameters import parameter_count
from supertwin.model.spec import AttentionSpec, ModelSpec
from supertwin.workload.operators import Real
from supertwin.workload.shard import chunk_pairs, mean_keys, minimum


def model_flops_per_token(model: ModelSpec, seq_len: Real, kind: str = "train", *, causal: bool = True) -> Real:
    """FLOP per token of a sequence of seq_len tokens.

    forward = 2 N + sum over layers of 2 a (d_qk + d_v) K with N the weights used per token (LM head included, input
    table and MTP modules not), a the query heads and K the mean number of keys per query: (s + 1) / 2 when causal,
    s when not (the counting of arXiv 2104.04473 and of the Megatron logs), less with windows, chunks or picked keys.
    train = 3 x forward; recomputation is not useful work. For a GPT that is
    72 l h^2 (1 + s / (6 h) + V / (12 l h)) when not causal.
    """
    if kind not in ("train", "forward"):
        raise InputError(f"kind is {kind!r}, expected train or forward")
    flop: Real = 2.0 * parameter_count(model).active
    for layer in model.layers:
        if layer.attention is not None:
            flop = flop + layer.count * attention_flops_per_token(layer.attention, seq_len, causal)
    return 3.0 * flop if kind == "train" else flop


def attention_flops_per_token(block: AttentionSpec, seq_len: Real, causal: bool) -> Real:
    """Scores and weighted sum (and indexer scores) of one block for one token, or the recurrence of a linear block."""
    if block.kind in ("linear", "mamba"):
        products = 3 if block.kind == "linear" else 2
        state = block.linear_value_heads * block.linear_key_head_dim * block.linear_value_head_dim
        return 2.0 * products * state
    seen = mean_keys(seq_len, seq_len, seq_len) if causal else seq_len * 1.0
    flop = 2.0 * block.heads * (block.qk_head_dim + block.v_head_dim) * useful_keys(block, seq_len, causal)
    if block.index_heads:
        flop = flop + 2.0 * block.index_heads * block.index_head_dim * seen / block.compress_ratio
    return flop


def useful_keys(block: AttentionSpec, seq_len: Real, causal: bool) -> Real:
    """Mean keys per query that the block's own rule lets through."""
    if block.compress_ratio > 1:
        limit = block.index_topk * block.compress_ratio if block.index_topk else seq_len
        return mean_keys(seq_len, seq_len, limit) / block.compress_ratio + mean_keys(seq_len, seq_len, block.window)
    limit = block.window or block.index_topk or seq_len
    if block.chunk:
        return chunk_pairs(seq_len, block.chunk) / seq_len if causal else minimum(seq_len, block.chunk)
    return mean_keys(seq_len, seq_len, limit) if causal else minimum(seq_len, limit)
