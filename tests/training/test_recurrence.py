"""What Mamba-2 computes twice."""

from __future__ import annotations

from supertwin.model.load import load_model
from supertwin.training.recurrence import scanned_again
from supertwin.training.shape import Recipe, layer_block
from supertwin.workload.backward import backward
from supertwin.workload.layer import layer_operators
from supertwin.workload.operators import Gemm
from supertwin.workload.shard import Shard, Step

STEP = Step(phase="train", sequences=1, q_len=8192, kv_len=8192)


def test_backward_of_mamba_repeats_convolution_scores_and_states() -> None:
    model = load_model("nemotron3-nano-30b-a3b")
    kind = next(k for k in model.layers if k.attention is not None and k.attention.kind == "mamba")
    forward = layer_operators(model, kind, STEP, Shard())
    again = scanned_again(forward)
    assert sorted(op.part for op in again) == ["attention/conv", *["attention/scan"] * 3]
    scores, states = (op for op in again if isinstance(op, Gemm))
    assert scores.k == kind.attention.linear_key_head_dim  # type: ignore[union-attr]
    assert states.k == kind.attention.linear_key_head_dim  # type: ignore[union-attr]
    block = layer_block(model, kind, STEP, Shard(), Recipe())
    assert len(block.backward) == len(backward(forward)) + len(again)


def test_attention_repeats_nothing() -> None:
    model = load_model("llama2-7b")
    forward = layer_operators(model, model.layers[0], STEP, Shard())
    assert scanned_again(forward) == []
