"""Pax and eight-bit attention: each mechanism against arithmetic done by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supertwin.machine.systems import load_system
from supertwin.model.load import load_model
from supertwin.training import Layout, TrainingCase, predict
from supertwin.training.fabric import Fabric
from supertwin.training.frameworks import framework_named
from supertwin.training.setting import setting_of
from supertwin.training.shape import Recipe, end_blocks, shard_of, step_of
from supertwin.training.sharding import StageWeights, full_shard_rounds, full_shard_sync
from supertwin.training.unfused import unfused
from supertwin.validation.predictors import habits
from supertwin.validation.tables import Row
from supertwin.workload.operators import Attention, Gemm, Vector


def job(framework: str = "paxml", **changes: object) -> TrainingCase:
    case = TrainingCase(
        model=load_model("gpt3-5b"),
        system=load_system("hgx-h100:16"),
        layout=Layout(dp=16),
        micro_batch=8,
        global_batch=128,
        seq_len=2048,
        sharding="zero3",
        framework=framework,
        recompute="full",
    )
    return replace(case, **changes)  # type: ignore[arg-type]


def test_look_up_by_a_product_costs_two_products_with_the_table() -> None:
    case = job()
    shard, step = shard_of(case, framework_named("paxml")), step_of(case)
    table = end_blocks(case.model, step, shard, Recipe(one_hot=True))[0]
    products = [op for op in table.forward + table.backward if isinstance(op, Gemm)]
    flop = sum(2.0 * float(op.m * op.n * op.k) for op in products)
    tokens = 8 * 2048
    assert flop == pytest.approx(2 * 2.0 * tokens * case.model.vocab * case.model.hidden)
    plain = end_blocks(case.model, step, shard, Recipe())
    assert not [op for op in plain[0].forward if isinstance(op, Gemm)]
    assert end_blocks(case.model, step, shard, Recipe(one_hot=True))[1:] == plain[1:]


def test_softmax_by_scans_reads_the_scores_once_per_reduction() -> None:
    call = Attention(
        part="attention/core", batch=2.0, q_len=512.0, kv_len=512.0, heads=4.0, kv_heads=4.0,
        qk_head_dim=64.0, v_head_dim=64.0,
    )  # fmt: skip
    scores = 2 * 4 * 512 * 512

    def moved(direction: str) -> float:
        parts = unfused([replace(call, direction=direction)], scans=True)
        found = [op for op in parts if isinstance(op, Vector) and op.op == "softmax"]
        return sum(float(op.bytes_read + op.bytes_written) for op in found)

    assert moved("fwd") == pytest.approx(2 * (3 + 1) * scores)
    assert moved("bwd") == pytest.approx(2 * (4 + 1) * scores)


def test_a_loop_over_layers_leaves_a_quarter_of_each_layer_exposed() -> None:
    case = job()
    setting, framework, wide = setting_of(case), framework_named("paxml"), (1e3, 1e3)
    fabric = Fabric(case, setting.framework)
    weights = StageWeights(5e9, 0.0, 24.0, 5e9, 0.0)
    rounds = full_shard_rounds(case, framework, fabric, weights)
    forward, backward = full_shard_sync(case, framework, fabric, weights, wide)
    free, _ = full_shard_sync(case, replace(framework, loop_waits=0.0), fabric, weights, wide)
    assert forward.exposed_s + forward.hidden_s == pytest.approx(rounds.gather_s)
    assert forward.exposed_s >= 0.25 * rounds.gather_s > free.exposed_s
    assert backward.exposed_s >= 0.25 * (rounds.gather_s + rounds.reduce_s)


def test_attention_in_eight_bits_is_faster() -> None:
    plain = job("nemo", recompute="none", micro_batch=1, global_batch=16, seq_len=8192)
    assert predict(replace(plain, attention_dtype="fp8")).step_time_s < 0.99 * predict(plain).step_time_s


def row(name: str, model: str, **fields: object) -> Row:
    return Row("training", 1, {"id": name, "model": model, "framework": "paxml", **fields})


def test_pax_attention_is_fused_in_the_late_table_alone() -> None:
    assert habits.attention_of(row("pax-mid-5b-h100-80gb-bf16-te", "gpt3-5b")) == "unfused"
    assert habits.attention_of(row("pax-early-175b-a100-80gb-bf16", "gpt3-175b")) == "unfused"
    assert habits.attention_of(row("pax-late-5b-h100-80gb-bf16-te", "gpt3-5b")) == ""
    assert habits.attention_of(row("pax-late-126m-h100-80gb-bf16-te", "gpt3-126m")) == "unfused"
