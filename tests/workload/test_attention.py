"""Shapes of the attention kinds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supertwin.model import load_model
from supertwin.workload import Shard, Step, layer_operators, model_operators
from supertwin.workload.operators import Attention, Operator, Vector
from supertwin.workload.shard import chunk_pairs, mean_keys
from tests.workload.closed_forms import attention_flop, product_flop


def core_of(ops: list[Operator]) -> Attention:
    return next(op for op in ops if isinstance(op, Attention) and op.part == "attention/core")


def decode(kv_len: float, sequences: float = 1, q_len: float = 1) -> Step:
    return Step(phase="decode", sequences=sequences, q_len=q_len, kv_len=kv_len)


@given(q=st.integers(1, 60), past=st.integers(0, 60), limit=st.integers(1, 80))
def test_mean_keys_is_the_mean(q: int, past: int, limit: int) -> None:
    seen = [min(i, limit) for i in range(past + 1, past + q + 1)]
    assert mean_keys(q, past + q, limit) == pytest.approx(np.mean(seen))


@given(n=st.integers(0, 100), chunk=st.integers(1, 30))
def test_chunk_pairs_is_the_sum(n: int, chunk: int) -> None:
    assert chunk_pairs(n, chunk) == sum(i % chunk + 1 for i in range(n))


def test_latent_attention_is_full_in_prefill_and_absorbed_in_decode() -> None:
    """DeepSeek-V3: 192/128 with 128 heads; 576/512 over one stored vector."""
    model = load_model("deepseek-v3")
    prefill = core_of(
        layer_operators(model, model.layers[0], Step(phase="prefill", sequences=1, q_len=8, kv_len=8), Shard())
    )
    absorbed = core_of(layer_operators(model, model.layers[0], decode(4096), Shard()))
    assert (prefill.qk_head_dim, prefill.v_head_dim, prefill.kv_heads, prefill.latent) == (192, 128, 128, False)
    assert (absorbed.qk_head_dim, absorbed.v_head_dim, absorbed.kv_heads, absorbed.latent) == (576, 512, 1, True)


def test_absorbed_and_full_maps_cost_the_same_products() -> None:
    model = load_model("deepseek-v3")
    full = layer_operators(model, model.layers[0], Step(phase="prefill", sequences=32, q_len=1, kv_len=1), Shard())
    absorbed = layer_operators(model, model.layers[0], decode(1, sequences=32), Shard())

    def flop(ops: list[Operator]) -> float:
        return product_flop(ops)

    assert flop(full) == flop(absorbed)


def test_cached_prefix_is_expanded_again() -> None:
    model = load_model("deepseek-v3")
    ops = layer_operators(model, model.layers[0], Step(phase="prefill", sequences=2, q_len=1000, kv_len=5000), Shard())
    assert next(op for op in ops if op.part == "attention/kv").m == 2 * 5000  # type: ignore[attr-defined]


def test_sparse_attention_reads_at_most_its_picks() -> None:
    model = load_model("deepseek-v3.2")
    for kv_len, keys in ((1000, 1000), (100_000, 2048)):
        ops = layer_operators(model, model.layers[0], decode(kv_len), Shard())
        core = core_of(ops)
        index = next(op for op in ops if isinstance(op, Attention) and op.part == "attention/index")
        assert core.kv_len == pytest.approx(keys)
        assert core.gathered
        assert index.kv_len == kv_len
        assert (index.heads, index.qk_head_dim) == (64, 128)


def test_layers_that_share_an_indexer_have_none() -> None:
    model = load_model("glm-5.2")
    ops = [layer_operators(model, layer, decode(50_000), Shard()) for layer in model.layers]
    indexed = sum(
        layer.count for layer, o in zip(model.layers, ops, strict=True) if any(x.part == "attention/topk" for x in o)
    )
    assert 0 < indexed < model.n_layers
    assert all(core_of(o).gathered for o in ops)


def test_windows_and_chunks_bound_the_keys() -> None:
    oss, scout = load_model("gpt-oss-120b"), load_model("llama4-scout-17b-16e")
    lengths = {core_of(layer_operators(oss, layer, decode(10_000), Shard())).kv_len for layer in oss.layers}
    assert lengths == {128, 10_000}
    assert core_of(layer_operators(scout, scout.layers[0], decode(5000), Shard())).kv_len == 5000
    assert core_of(layer_operators(scout, scout.layers[0], decode(50_000), Shard())).kv_len == pytest.approx(8193 / 2)


def test_compressed_attention_of_deepseek_v4() -> None:
    """Window of 128, and every 128th entry, or 512 picked entries of every 4th."""
    model = load_model("deepseek-v4-flash")
    keys = {
        layer.attention.compress_ratio: core_of(layer_operators(model, layer, decode(64_000), Shard())).kv_len
        for layer in model.layers
        if layer.attention is not None
    }
    assert keys[1] == 128
    assert keys[4] == pytest.approx(512 + 128)
    assert keys[128] == pytest.approx(500 + 128)


def test_recurrent_decode_moves_the_state_once_whatever_the_context() -> None:
    """Qwen3-Next: 32 value heads of 128 x 128 in FP32 per sequence and layer."""
    model = load_model("qwen3-next-80b-a3b")
    linear = next(layer for layer in model.layers if layer.attention is not None and layer.attention.kind == "linear")
    for kv_len in (100, 100_000):
        scan = next(
            op
            for op in layer_operators(model, linear, decode(kv_len, sequences=3), Shard())
            if op.part == "attention/scan"
        )
        assert isinstance(scan, Vector)
        assert scan.bytes_read == scan.bytes_written == 3 * 32 * 128 * 128 * 4


def test_chunked_recurrence_grows_with_tokens_not_with_context() -> None:
    for name in ("qwen3-next-80b-a3b", "nemotron3-nano-30b-a3b", "kimi-k3"):
        model = load_model(name)
        kind = next(x for x in model.layers if x.attention is not None and x.attention.kind in ("linear", "mamba"))

        def flop(q_len: int, kind: object = kind, model: object = model) -> float:
            step = Step(phase="prefill", sequences=1, q_len=q_len, kv_len=q_len)
            ops = layer_operators(model, kind, step, Shard())  # type: ignore[arg-type]
            return product_flop((op for op in ops if op.part == "attention/scan"), skip="none")

        assert flop(8192) == pytest.approx(2 * flop(4096))
        assert flop(4096) > 0


def test_decode_of_one_token_is_the_last_row_of_prefill() -> None:
    """Attention over kv_len keys: prefill of n tokens is the sum of n decodes (dense attention)."""
    model = load_model("llama-3.1-8b")
    n = 64
    prefill = attention_flop(model_operators(model, Step(phase="prefill", sequences=1, q_len=n, kv_len=n), Shard()))
    steps = sum(attention_flop(model_operators(model, decode(i), Shard())) for i in range(1, n + 1))
    assert prefill == pytest.approx(steps)
