"""Ascend recipes: quantisation on the way, drafts over all tokens, shared experts on a stream of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from supertwin.inference import Deployment, InferenceCase, predict
from supertwin.inference.anatomy import anatomy, is_draft
from supertwin.inference.engines import engine
from supertwin.inference.habits import Habits
from supertwin.inference.own_drafts import own_draft_passes
from supertwin.inference.pieces import shared_beside
from supertwin.inference.plan import plan_of
from supertwin.inference.shape import Shape
from supertwin.inference.times import scalar
from supertwin.machine import load_system
from supertwin.model import load_model
from supertwin.workload.operators import Gemm
from supertwin.workload.shard import Shard, Step

BESIDE = ("moe/router", "moe/dispatch")
MODEL = load_model("deepseek-v3.2")
CASE = InferenceCase(
    MODEL, load_system("cm384:64"),
    Deployment(
        dp=64, ep=64, dp_attention=True, weight_dtype="int8", activation_dtype="int8", mtp_tokens=3,
        mtp_acceptance=0.6, expert_balance="perfect", framework="cann-recipes",
    ),
    "decode", 4.0, kv_len=4096,
)  # fmt: skip


def _quantised(framework: str, model: str = "deepseek-v3.2") -> set[str]:
    deployment = replace(CASE.deployment, framework=framework)
    shape = Shape("decode", np.array([4.0]), np.array([64.0]), 2.0, 4096.0)
    plan = plan_of(load_model(model), CASE.system.chip, deployment, shape)
    gemms = (o for b in plan.blocks for o in b.operators if isinstance(o, Gemm))
    return {o.part for o in gemms if o.quantize_input}


def test_kernels_that_quantise_on_the_way_leave_no_pass() -> None:
    taken = {"attention/q", "attention/index", "mlp/down", "moe/shared/down"}
    taken |= {f"mtp/{part}" for part in taken}
    own, other = _quantised("cann-recipes"), _quantised("vllm")
    assert not own & taken
    assert other - own <= taken
    assert "attention/out" in own  # what the core writes is quantised in a pass


def test_an_expert_alone_takes_the_quantised_output_of_its_activation() -> None:
    deployment = replace(CASE.deployment, dp=320, ep=320, redundant_experts=32, framework="cloudmatrix-infer")
    shape = Shape("decode", np.array([4.0]), np.array([1280.0]), 2.0, 4096.0)

    def narrow(framework: str) -> int:
        plan = plan_of(load_model("deepseek-r1"), CASE.system.chip, replace(deployment, framework=framework), shape)
        gemms = (o for b in plan.blocks for o in b.operators if isinstance(o, Gemm) and o.part == "moe/experts")
        return sum(o.quantize_input for o in gemms)

    assert narrow("vllm-ascend") == 1
    assert narrow("cloudmatrix-infer") == 0


def test_every_draft_of_the_recipes_runs_over_all_tokens() -> None:
    sized = Step(phase="decode", sequences=8.0, q_len=4.0, kv_len=4096.0), Shard(ep=8)
    whole = own_draft_passes(MODEL, (3, 1), sized, Habits(whole_drafts=True))
    narrow = own_draft_passes(MODEL, (3, 1), sized, Habits())
    assert [count for _, count in whole] == [3.0]
    assert [count for _, count in narrow] == [1.0, 2.0]
    assert [o.m for ops, _ in narrow for o in ops if o.part == "mtp/join" and isinstance(o, Gemm)] == [32.0, 8.0]


def test_a_draft_costs_its_pass_and_a_gap_of_the_host() -> None:
    gap = engine("cann-recipes").draft_gap_s
    three, two = (predict(replace(CASE, deployment=replace(CASE.deployment, mtp_tokens=n))).step_time_s for n in (3, 2))
    found = anatomy(CASE)
    drafts = scalar(found.alone(is_draft).time_s) / 3.0
    assert three - two > gap + 0.8 * drafts


def test_gate_and_dispatch_hide_shared_experts() -> None:
    opened = next(o for o in anatomy(CASE).blocks if o.block.layer and any("moe" in p.part for p in o.pieces))
    parts = [o.part for o in opened.block.operators]

    def shown(each_s: float) -> float:
        shared = [
            replace(p, time_s=each_s) if o.startswith("moe/shared") else p
            for o, p in zip(parts, opened.pieces, strict=True)
        ]
        after = shared_beside(opened.block, shared)
        return sum(scalar(p.time_s) for o, p in zip(parts, after, strict=True) if o.startswith("moe/shared"))

    beside = sum(scalar(p.time_s) for o, p in zip(parts, opened.pieces, strict=True) if o in BESIDE)
    count = sum(o.startswith("moe/shared") for o in parts)
    assert shown(1e-7) == 0.0
    assert shown(1e-3) == pytest.approx(1e-3 * count - beside)


def test_deepseek_v4_has_no_prolog() -> None:
    """Its recipe runs maps, norms and rotations before the core as kernels of their own (mla_prolog_decode)."""
    deployment = replace(CASE.deployment, mtp_tokens=1)

    def rope_s(model: str) -> float:
        found = anatomy(InferenceCase(load_model(model), CASE.system, deployment, "decode", 64.0, kv_len=8192))
        layers = [o for o in found.blocks if o.block.layer]
        return sum(scalar(p.time_s) for b in layers for o, p in b.operators if o.part == "attention/rope")

    assert rope_s("deepseek-v3.2") == 0.0
    assert rope_s("deepseek-v4-flash") > 3e-5
