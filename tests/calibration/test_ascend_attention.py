"""Attention of running models on Ascend 910C: shipped constants against the kernels that they stand on."""

from __future__ import annotations

import pytest

from supertwin.calibration import ascend_attention as rows
from supertwin.cost.engine import CostEngine
from supertwin.machine.chips import load_chip
from supertwin.workload.operators import Attention

ENGINE = CostEngine(load_chip("ascend-910c-die"), library="serving")


def latent_us(sequences: float, heads: float, queries: float, keys: float, gathered: bool = False) -> float:
    call = Attention(
        part="attention/core", batch=sequences, q_len=queries, kv_len=keys, heads=heads, kv_heads=1.0,
        qk_head_dim=576.0, v_head_dim=512.0, causal=not gathered, phase="decode", latent=True, gathered=gathered,
    )  # fmt: skip
    return float(ENGINE.price([call])[0].time_s) * 1e6


def grouped_us(sequences: float, queries: float, keys: float, phase: str = "decode") -> float:
    call = Attention(
        part="attention/core", batch=sequences, q_len=queries, kv_len=keys, heads=4.0, kv_heads=1.0,
        qk_head_dim=128.0, v_head_dim=128.0, causal=True, phase=phase,
    )  # fmt: skip
    return float(ENGINE.price([call])[0].time_s) * 1e6


@pytest.mark.parametrize(("sequences", "us"), rows.LATENT_SHORT)
def test_latent_attention_starts_more_cores_for_more_sequences(sequences: int, us: float) -> None:
    assert latent_us(sequences, 16, 1, 256) == pytest.approx(us, rel=0.06)


@pytest.mark.parametrize(("sequences", "heads", "queries", "keys", "us"), rows.LATENT_LONG)
def test_keys_of_latent_attention_are_not_split(sequences: int, heads: int, queries: int, keys: int, us: float) -> None:
    assert latent_us(sequences, heads, queries, keys) == pytest.approx(us, rel=0.06)


@pytest.mark.parametrize(("sequences", "keys", "us"), rows.GROUPED)
def test_grouped_attention(sequences: int, keys: int, us: float) -> None:
    assert grouped_us(sequences, 1, keys) == pytest.approx(us, rel=0.13)


@pytest.mark.parametrize(("sequences", "tokens", "us"), rows.PROMPTS)
def test_prompts_of_unknown_lengths_take_a_little_longer(sequences: int, tokens: int, us: float) -> None:
    each = tokens / sequences
    assert 0.88 * us < grouped_us(sequences, each, each, "prefill") < us


def latent_long_us(dtype: str) -> float:
    call = Attention(
        part="attention/core", batch=192.0, q_len=1.0, kv_len=16384.0, heads=128.0, kv_heads=1.0, qk_head_dim=576.0,
        v_head_dim=512.0, causal=True, phase="decode", latent=True, dtype=dtype, kv_dtype=dtype,
    )  # fmt: skip
    return float(ENGINE.price([call])[0].time_s) * 1e6


def test_vector_work_of_latent_attention_stays_with_an_8_bit_cache() -> None:
    """245.9 TFLOP/s in BF16 (arXiv 2506.12708v2 table 8). In INT8 the products, 304.3 of them, take half."""
    flop = 2.0 * 192 * 128 * 16384 * (576 + 512)
    chip = load_chip("ascend-910c-die")
    products_us = flop / 304.3e12 * chip.peak("bf16") / chip.peak("int8") * 1e6
    vector_us = flop * (1 / 245.9e12 - 1 / 304.3e12) * 1e6
    assert latent_long_us("bf16") == pytest.approx(flop / 245.9e12 * 1e6, rel=0.01)
    assert latent_long_us("int8") == pytest.approx(products_us + vector_us, rel=0.01)


def test_grouped_attention_splits_long_keys_of_few_sequences() -> None:
    assert grouped_us(4, 1, 65536) < 0.5 * grouped_us(12, 1, 65536)
    assert grouped_us(4, 2, 65536) > 2.0 * grouped_us(4, 1, 65536)  # two queries per sequence: not implemented


def test_few_tokens_of_sparse_attention_leave_cores_idle() -> None:
    """128 heads: two blocks of 64 per token, so four tokens keep 8 of 24 cores busy and 12 all of them."""
    assert latent_us(1, 128, 12, 2048, True) < 1.25 * latent_us(1, 128, 4, 2048, True)
