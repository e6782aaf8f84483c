"""How tokens reach experts, and what the layer keeps for the backward pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from supertwin.core.errors import InputError
from supertwin.model import load_model, model_names
from supertwin.workload import (
    Recompute,
    Shard,
    Stage,
    Step,
    activation_bytes,
    backward,
    kv_bytes_per_token,
    layer_operators,
    model_flops_per_token,
)
from supertwin.workload.operators import Communication, ExpertMlp, Gemm, Operator, Vector

QWEN = load_model("qwen3-235b-a22b")
DEEPSEEK = load_model("deepseek-v3")
DECODE = Step(phase="decode", sequences=64, q_len=1, kv_len=4096)
TRAIN = Step(phase="train", sequences=1, q_len=4096, kv_len=4096)


def exchanges(ops: list[Operator]) -> list[tuple[str, str, float]]:
    return [
        (op.op, op.axis, float(op.message_bytes)) for op in ops if isinstance(op, Communication) and "moe" in op.part
    ]


def test_all_reduce_needs_no_dispatch() -> None:
    """Experts over the ranks of one tp group: every rank has all 64 tokens."""
    ops = layer_operators(QWEN, QWEN.layers[0], DECODE, Shard(tp=8, ep=8, moe_transport="all_reduce"))
    assert exchanges(ops) == [("all_reduce", "tp", 64 * 4096 * 2)]
    assert next(op for op in ops if isinstance(op, ExpertMlp)).routing


def test_all_gather_collects_the_tokens_of_all_attention_ranks() -> None:
    """16 devices, tp 4: four attention ranks of 64 tokens."""
    ops = layer_operators(QWEN, QWEN.layers[0], DECODE, Shard(tp=4, ep=16, moe_transport="all_gather"))
    buffer = 4 * 64 * 4096 * 2
    reduced = ("all_reduce", "tp", 64 * 4096 * 2.0)
    assert exchanges(ops) == [("all_gather", "ep", buffer), ("reduce_scatter", "ep", buffer), reduced]
    assert next(op for op in ops if isinstance(op, ExpertMlp)).rows == 4 * 64 * 8 / 16


def test_training_exchanges_each_copy_and_turns_round() -> None:
    shard = Shard(ep=8, moe_transport="all_to_all", fused_experts=False)
    ops = layer_operators(QWEN, QWEN.layers[0], TRAIN, shard)
    copies = 4096 * 8 * 4096 * 2
    assert exchanges(ops) == [("all_to_all", "ep", copies)] * 2
    assert exchanges(backward(ops)) == [("all_to_all", "ep", copies)] * 2
    deep = layer_operators(QWEN, QWEN.layers[0], TRAIN, Shard(ep=8, fused_experts=False))
    assert [e[0] for e in exchanges(backward(deep))] == ["dispatch", "combine"]


def test_expert_tensor_parallel_gathers_rows() -> None:
    shard = Shard(tp=2, ep=4, etp=2, moe_transport="all_to_all", fused_experts=False, sequence_parallel=True)
    ops = layer_operators(QWEN, QWEN.layers[0], TRAIN, shard)
    rows = 4096 * 8 * 2 / 2
    assert ("all_gather", "etp", rows * 4096 * 2) in exchanges(ops)
    products = [op for op in ops if isinstance(op, Gemm) and op.part == "moe/experts"]
    assert [(p.m * p.groups, p.groups, p.n, p.k) for p in products] == [(rows, 32, 1536, 4096), (rows, 32, 4096, 768)]


def test_fused_experts_have_no_backward() -> None:
    with pytest.raises(InputError, match="fused_experts=False"):
        backward(layer_operators(QWEN, QWEN.layers[0], DECODE, Shard()))


def test_latent_experts_travel_narrow() -> None:
    """Nemotron 3 Super: experts work in 1,024 of 4,096 channels."""
    model = load_model("nemotron3-super-120b-a12b")
    moe = next(x for x in model.layers if x.feed_forward is not None and x.feed_forward.experts)
    ops = layer_operators(model, moe, DECODE, Shard(ep=8))
    assert exchanges(ops)[0][2] == 64 * 22 * 1024 * 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: Shard(moe_transport="pigeon"),
        lambda: Shard(context="rings"),
        lambda: Shard(tp=0),
        lambda: Shard(ep=np.array([1.0, np.nan])),
        lambda: Step(phase="training", sequences=1, q_len=1, kv_len=1),
        lambda: model_flops_per_token(QWEN, 4096, "backward"),
    ],
)
def test_unknown_words_are_refused(make: object) -> None:
    with pytest.raises(InputError, match="expected"):
        make()  # type: ignore[operator]


def test_kept_by_a_deepseek_layer_item_by_item() -> None:
    """BF16, one token, expert layer 7168 wide, 256 experts, 8 used, 2,048 inner, shared 2,048."""
    layer = next(x for x in DEEPSEEK.layers if x.feed_forward is not None and x.feed_forward.experts)
    step = Step(phase="train", sequences=1, q_len=1, kv_len=1)
    norms = 2 * 7168 + 2 * 7168
    ranks = 2 * (1536 + 512 + 64)
    attention = 128 * (192 + 192 + 128) + 128 * 128
    feed_forward = 8 * (7168 + 3 * 2048) + 3 * 2048
    kept = 2 * (norms + ranks + attention + feed_forward) + 128 * 4 + 256 * 2 * 4
    assert activation_bytes(DEEPSEEK, layer, step, Shard(), Recompute()) == kept


def test_narrow_inputs_are_kept_narrow() -> None:
    layer = DEEPSEEK.layers[1]
    wide = activation_bytes(DEEPSEEK, layer, TRAIN, Shard(), Recompute())
    narrow = activation_bytes(DEEPSEEK, layer, TRAIN, Shard(linear_dtype="fp8", expert_dtype="fp8"), Recompute())
    assert 0.6 * wide < narrow < 0.9 * wide


def test_every_layer_keeps_something_and_less_when_cut() -> None:
    for name in model_names():
        model = load_model(name)
        for layer in model.layers:
            whole = activation_bytes(model, layer, TRAIN, Shard(), Recompute())
            cut = activation_bytes(model, layer, TRAIN, Shard(tp=4, sequence_parallel=True), Recompute())
            full = activation_bytes(model, layer, TRAIN, Shard(), Recompute("full"))
            assert 0 < cut < whole, name
            assert full < whole, name


def test_cache_of_a_stage_with_a_draft_module() -> None:
    main = Stage((3, 58), mtp=False)
    both = Stage((3, 58), mtp=True)
    assert kv_bytes_per_token(DEEPSEEK, Shard(), both) - kv_bytes_per_token(DEEPSEEK, Shard(), main) == 576 * 2


def test_vector_backward_moves_saved_inputs_and_gradients() -> None:
    ops = layer_operators(QWEN, QWEN.layers[0], TRAIN, Shard(fused_experts=False))
    act = next(op for op in ops if op.part == "moe/act")
    back = next(op for op in backward(ops) if op.part == "moe/act")
    assert isinstance(act, Vector)
    assert isinstance(back, Vector)
    assert np.isclose(act.bytes_read, 2 * act.bytes_written)
    assert (back.bytes_read, back.bytes_written) == (act.bytes_read + act.bytes_written, act.bytes_read)


@pytest.mark.parametrize(("shard", "seen"), [(Shard(tp=4, etp=4), 1.0), (Shard(tp=4, ep=4), 1.0), (Shard(ep=8), 8.0)])
def test_fused_experts_see_every_token_of_their_group_once(shard: Shard, seen: float) -> None:
    """Tensor-parallel ranks hold the same tokens; gathered attention ranks bring their own."""
    gathered = replace(shard, moe_transport="all_gather" if shard.tp == 1 else "all_reduce", fused_experts=True)
    step = Step(phase="prefill", sequences=1.0, q_len=512.0, kv_len=512.0)
    ops = layer_operators(QWEN, QWEN.layers[0], step, gathered)
    (experts,) = (op for op in ops if isinstance(op, ExpertMlp))
    assert experts.routing
    assert float(np.max(experts.tokens)) == pytest.approx(512.0 * seen)
