"""Attention of serving steps on Ascend 910B and 910C: published best values, and kernels as they run inside a model.

Running kernels: FusedInferAttentionScore in the traces of ascend_serving.py. Splits of the keys: the tiling code of
ops-transformer and of its forks (IFATiling::CheckCoreOkFlag: up to 0.4 of the cores, from 2,048 keys, one query per
sequence; FusedInferAttentionScoreTilingImpl::CheckFlashDecode: never with rotary parts, which is latent attention;
SparseFlashAttention: its template flag for flash decode is 0). Latent attention packs 128 rows of heads and queries.
"""

from __future__ import annotations

from collections.abc import Mapping

from supertwin.machine.chip import Chip

LATENT_SHORT = ((1, 11.4), (2, 11.9), (4, 13.3), (6, 14.55), (8, 16.3), (10, 17.8), (12, 19.7))
"""(sequences, microseconds): 16 heads, a few hundred keys."""
LATENT_LONG = ((5, 16, 1, 4100, 59.8), (4, 64, 3, 4608, 91.8))
"""(sequences, heads, queries, keys, microseconds); the last of LongCat-Flash (cann-recipes-infer; kernels.csv: FA)."""
GROUPED = ((1, 256, 18.4), (8, 256, 22.0), (16, 256, 24.0), (16, 4300, 61.2))
"""(sequences, keys, microseconds): 4 heads that share one key head."""
PROMPTS = ((11, 41040, 1286.0), (7, 24624, 780.0))
"""(sequences, tokens of all, microseconds): prompts without prefix, 4 heads of 128, causal; single lengths unknown."""

PRODUCTS = 304.3e12
"""FLOP/s of BF16 products of 8,192 on this die (FlagPerf, kernels.csv): what latent attention's own products reach."""
LATENT = 245.9e12
"""FLOP/s of latent decode attention in BF16 (arXiv 2506.12708v2 table 8). What it lacks to PRODUCTS is vector work that
takes turns with them: 18.9 FLOP per query-key pair, which an 8-bit cache leaves as it is."""
PAIR_FLOP = 2.0 * (576.0 + 512.0)

_NEVER = {"split_most": 0.0, "split_keys": 0.0, "split_queries": 1.0}
_FEW = {"split_most": 0.4, "split_keys": 2048.0, "split_queries": 1.0}


def decode_constants(chip: Chip) -> dict[str, Mapping[str, float]]:
    """Constants by kind. Rates: 94 % of the memory rate (1,503 GB/s on 910B2, vllm-ascend statistics, kernels.csv),
    latent 245.9 TFLOP/s and 84.1 % (arXiv 2506.12708v2 tables 8 and 9). Starts and what a core draws: rows above; start
    and work of grouped kernels add up there. Start of a further tile on a core: 1 us (assumption). Indexer: blocks
    of 512 keys, spread evenly over the cores (lightning_indexer_kernel_arch22.h); start and rate are priors; one
    token takes 20 us in all with its choice (npu_lightning_indexer, FlagGems-vllm pull request 791)."""
    grouped = {
        "start_s": 1.7e-5, "spread_s": 8e-6, "tile_s": 1e-6, "rate": 0.5, "memory": 0.94, "split_s": 5e-7, "sharp": 1.0,
        **_FEW,
    }  # fmt: skip
    latent = {
        "start_s": 9.6e-6, "spread_s": 1.8e-5, "tile_s": 1e-6, "rate": PRODUCTS / chip.peak("bf16"), "memory": 0.841,
        "vector_flop": PAIR_FLOP * (1.0 / LATENT - 1.0 / PRODUCTS) * chip.vector_flop_per_s, "draw": 1.4,
        "split_s": 5e-7, "sharp": 3.0, "tile_rows": 128.0, **_NEVER,
    }  # fmt: skip
    scores = {
        "start_s": 8e-6, "tile_s": 3e-6, "rate": 0.5, "memory": 0.85, "split_s": 0.0, "sharp": 1.0, "tile_rows": 1024.0,
        "block_keys": 512.0,
    }  # fmt: skip
    return {
        "gqa/128": grouped, "mla/576": latent, "sparse/576": {**latent, "tile_rows": 64.0}, "indexer/128": scores,
    }  # fmt: skip


PREFILL: Mapping[str, float] = {
    "start_s": 3.6e-5, "tile_s": 3.5e-6, "rate": 0.56, "memory": 0.85, "sharp": 3.0, "rows": 128.0,
}  # fmt: skip
"""Start: 42.2 us floor (vllm-ascend statistics). Rate: with tiles of 1.5 us 322.9 TFLOP/s at 8,192 tokens counted
without the causal halving, the best of that table. Tile: between that and the prompts above, which want 5.2 us where
they are of one length."""
