"""What is cut is conserved: arithmetic over ranks, rows over experts, bytes of exchanges."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.model import load_model
from supertwin.workload import (
    Shard,
    Step,
    backward,
    embedding_operators,
    head_operators,
    layer_operators,
    model_operators,
)
from supertwin.workload.operators import Attention, Communication, ExpertMlp, Gemm
from tests.workload.closed_forms import attention_flop, message_bytes, product_flop

CUT_EVENLY = ["llama-3.1-70b", "gpt3-175b", "qwen3-235b-a22b", "mixtral-8x7b", "gemma2-27b"]
POWERS = st.sampled_from([1, 2, 4, 8])


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(CUT_EVENLY), tp=st.sampled_from([2, 4]), sequence=st.booleans())
def test_tensor_parallel_ranks_add_up(name: str, tp: int, sequence: bool) -> None:
    model = load_model(name)
    step = Step(phase="train", sequences=2, q_len=512, kv_len=512)
    base = Shard(fused_experts=False, etp=1, sequence_parallel=True)
    cut = replace(base, tp=tp, etp=tp, sequence_parallel=sequence)
    whole, part = model_operators(model, step, base), model_operators(model, step, cut)
    router = product_flop([op for op in part if op.part == "moe/router"])
    router_whole = product_flop([op for op in whole if op.part == "moe/router"])
    assert tp * (product_flop(part) - router) == pytest.approx(product_flop(whole) - router_whole)
    assert tp * attention_flop(part) == pytest.approx(attention_flop(whole))


@settings(max_examples=60, deadline=None)
@given(ep=POWERS, etp=POWERS, tp=POWERS)
def test_rows_of_all_expert_devices_are_tokens_times_topk(ep: int, etp: int, tp: int) -> None:
    """ep x etp devices share the tokens of ep x etp / tp attention ranks; each row is computed by etp of them."""
    model = load_model("qwen3-235b-a22b")
    step = Step(phase="decode", sequences=96, q_len=1, kv_len=1000)
    ops = layer_operators(model, model.layers[0], step, Shard(tp=tp, ep=ep, etp=etp))
    expert = next(op for op in ops if isinstance(op, ExpertMlp))
    ranks = ep * etp / tp
    assert expert.rows * ep * etp == pytest.approx(96 * ranks * 8 * etp)
    assert expert.experts * ep == 128
    assert expert.inter * etp == 1536


@settings(max_examples=30, deadline=None)
@given(cp=POWERS, context=st.sampled_from(["ring", "ulysses", "all_gather"]))
def test_context_parallel_ranks_add_up(cp: int, context: str) -> None:
    model = load_model("llama-3.1-8b")
    step = Step(phase="train", sequences=1, q_len=4096, kv_len=4096)
    whole = model_operators(model, step, Shard())
    part = model_operators(model, step, Shard(cp=cp, context=context))
    assert cp * product_flop(part) == pytest.approx(product_flop(whole))
    cores = [op for op in part if isinstance(op, Attention)]
    # the fractional last query of the balanced share is the only difference
    assert cp * sum(_pairs(op) for op in cores) == pytest.approx(
        sum(_pairs(op) for op in whole if isinstance(op, Attention)), rel=2e-3
    )


def test_ulysses_copies_key_value_heads_that_do_not_reach_every_rank() -> None:
    """Llama 3.1 8B, 32 query and 8 key-value heads: 16 ranks exchange 32 + 2 x 16 heads in and 32 out, not 80."""
    model = load_model("llama-3.1-8b")
    step = Step(phase="train", sequences=1, q_len=4096, kv_len=4096)

    def heads(cp: int) -> float:
        moved = [
            float(op.message_bytes)
            for op in layer_operators(model, model.layers[0], step, Shard(cp=cp, context="ulysses"))
            if isinstance(op, Communication) and op.part == "attention/context"
        ]
        return sum(moved) * cp / (4096 * 128 * 2)

    assert heads(8) == pytest.approx(32 + 2 * 8 + 32)
    assert heads(16) == pytest.approx(32 + 2 * 16 + 32)


def _pairs(op: Attention) -> float:
    mean = op.kv_len - (op.q_len - 1) / 2 if op.causal else op.kv_len
    return float(op.batch * op.heads * op.q_len * mean * op.count)


def test_sequence_parallel_moves_as_much_as_all_reduce() -> None:
    """arXiv 2205.05198: all-gather and reduce-scatter of the same buffer replace one all-reduce."""
    model = load_model("llama-3.1-8b")
    step = Step(phase="train", sequences=1, q_len=4096, kv_len=4096)
    reduced = layer_operators(model, model.layers[0], step, Shard(tp=8))
    split = layer_operators(model, model.layers[0], step, Shard(tp=8, sequence_parallel=True))
    buffer = 4096 * 4096 * 2
    assert [(op.op, op.message_bytes) for op in reduced if isinstance(op, Communication)] == [
        ("all_reduce", buffer)
    ] * 2
    assert [op.op for op in split if isinstance(op, Communication)] == ["all_gather", "reduce_scatter"] * 2
    assert message_bytes(split) == 2 * message_bytes(reduced)
    turned = [op.op for op in backward(split) if isinstance(op, Communication)]
    assert sorted(turned) == ["all_gather"] * 4 + ["reduce_scatter"] * 2  # two of them gather the input again


def test_groups_of_one_are_silent() -> None:
    step = Step(phase="decode", sequences=8, q_len=1, kv_len=100)
    for name in ("deepseek-v3", "llama-3.1-8b", "qwen3-next-80b-a3b"):
        model = load_model(name)
        ops = model_operators(model, step, Shard()) + embedding_operators(model, step, Shard())
        ops += head_operators(model, step, Shard())
        assert not [op for op in ops if isinstance(op, Communication)]


def test_dispatch_of_deepseek_v3() -> None:
    """128 tokens, 8 experts, 7168 wide: FP8 out, BF16 back (the DeepEP low-latency setting)."""
    model = load_model("deepseek-v3")
    shard = Shard(ep=64, expert_dtype="fp8", dispatch_dtype="fp8", combine_dtype="bf16")
    step = Step(phase="decode", sequences=128, q_len=1, kv_len=4096)
    traffic = [op for op in layer_operators(model, model.layers[1], step, shard) if isinstance(op, Communication)]
    assert [(op.op, op.tokens, op.topk, op.message_bytes) for op in traffic] == [
        ("dispatch", 128, 8, 128 * 8 * 7168),
        ("combine", 128, 8, 128 * 8 * 7168 * 2),
    ]


def test_few_key_value_heads_are_copied() -> None:
    model = load_model("llama-3.1-70b")
    step = Step(phase="decode", sequences=4, q_len=1, kv_len=1000)
    ops = layer_operators(model, model.layers[0], step, Shard(tp=16))
    qkv = next(op for op in ops if isinstance(op, Gemm) and op.part == "attention/qkv")
    core = next(op for op in ops if isinstance(op, Attention))
    assert (core.heads, core.kv_heads) == (4, 1)
    assert qkv.n == (4 + 2) * 128


def test_zero_experts_take_their_share() -> None:
    """LongCat: of 12 picks among 512 experts and 256 zero experts, 8 compute on average."""
    model = load_model("longcat-flash")
    step = Step(phase="decode", sequences=100, q_len=1, kv_len=1000)
    expert = next(op for op in layer_operators(model, model.layers[0], step, Shard()) if isinstance(op, ExpertMlp))
    assert expert.rows == pytest.approx(800)


def test_ring_passes_keys_cp_minus_one_times_and_gradients_with_them_on_the_way_back() -> None:
    model = load_model("llama-3.1-8b")
    step = Step(phase="train", sequences=1, q_len=8192, kv_len=8192)
    ops = layer_operators(model, model.layers[0], step, Shard(cp=4))
    ring = next(op for op in ops if isinstance(op, Communication))
    assert (ring.op, ring.count, ring.message_bytes) == ("p2p", 3, 8192 / 4 * 2 * 8 * 128 * 2)
    back = next(op for op in backward(ops) if isinstance(op, Communication))
    assert (back.op, back.count, back.message_bytes) == ("p2p", 3, 2 * ring.message_bytes)


def test_latent_vectors_travel_where_keys_are_gathered() -> None:
    model = load_model("deepseek-v3")
    step = Step(phase="prefill", sequences=1, q_len=8192, kv_len=8192)
    ops = layer_operators(model, model.layers[0], step, Shard(cp=4, context="all_gather"))
    gather = next(op for op in ops if isinstance(op, Communication))
    assert (gather.op, gather.message_bytes) == ("all_gather", 8192 * 576 * 2)
