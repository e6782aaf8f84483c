"""Tensor operations of biased, clamped experts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supertwin.machine.systems import load_system
from supertwin.model.load import load_model
from supertwin.training import Layout, TrainingCase, predict
from supertwin.training.expert_bias import bias_operators, has_expert_bias
from supertwin.workload.layer import layer_operators
from supertwin.workload.operators import Vector
from supertwin.workload.shard import Shard, Step


def test_bytes_of_gpt_oss_are_those_of_its_tensor_operations() -> None:
    model = load_model("gpt-oss-120b")
    step = Step(phase="train", sequences=1, q_len=4096, kv_len=4096)
    forward = layer_operators(model, model.layers[0], step, Shard(fused_experts=False))
    rows = 4096 * 4
    for backward, clamp, bias in ((False, 8, 28), (True, 10, 40)):
        (added,) = bias_operators(forward, backward=backward)
        assert isinstance(added, Vector)
        moved = added.bytes_read + added.bytes_written
        assert moved == pytest.approx(rows * (clamp * 2 * 2880 + bias * 2880))


def test_only_biased_gated_experts_have_them() -> None:
    assert has_expert_bias(load_model("gpt-oss-20b"))
    assert not has_expert_bias(load_model("qwen3-30b-a3b"))
    assert not has_expert_bias(load_model("gpt3-175b"))


def test_fused_experts_need_none() -> None:
    case = TrainingCase(
        load_model("gpt-oss-120b"),
        load_system("gb200-nvl72"),
        Layout(ep=8, dp=72),
        seq_len=4096,
        micro_batch=1,
        global_batch=72,
        precision="bf16",
        framework="megatron-bridge",
    )
    apart, fused = (
        {p.part: p.time_s for p in predict(replace(case, fused_experts=flag)).breakdown} for flag in (False, True)
    )
    assert apart["compute/moe"] > 1.1 * fused["compute/moe"]
