"""Choice of keys inside the lightning indexer on Ascend."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from supertwin.cost.engine import CostEngine
from supertwin.inference import Deployment, InferenceCase
from supertwin.inference.anatomy import anatomy, scalar
from supertwin.inference.plan import plan_of
from supertwin.inference.shape import Shape
from supertwin.inference.sorting import with_sorting
from supertwin.machine import load_system
from supertwin.machine.chips import load_chip
from supertwin.model import load_model
from supertwin.workload.block import vector
from supertwin.workload.operators import Attention, Gemm, Vector
from supertwin.workload.shard import Step

A3, NEXT = load_chip("ascend-910c-die"), load_chip("ascend-950dt")


def sorting_us(sequences: float, queries: float, keys: float, phase: str = "decode", topk: int = 2048) -> float:
    return float(sum(_priced(sequences, queries, keys, phase, topk, chip=A3))) * 1e6


def _priced(sequences: float, queries: float, keys: float, phase: str, topk: int, chip=A3) -> list[float]:  # type: ignore[no-untyped-def]
    tokens = sequences * queries
    step = Step(phase=phase, sequences=sequences, q_len=queries, kv_len=keys)
    choice = vector(
        "attention/topk", "topk", (2 * tokens * keys, 4096.0 * tokens), flop=2 * tokens * keys, tokens=tokens
    )
    found = with_sorting([choice], topk, step, chip)
    assert all(isinstance(o, Vector) and o.fused for o in found)
    return [float(c.time_s) for c in CostEngine(chip, library="serving").price(found)]


def test_prompts_sort_on_all_cores() -> None:
    """8,192 queries of one prompt see 4,096 keys on average; npu_lightning_indexer takes 990 us on a 910B1
    (FlagGems-vllm pull request 791), scores beside the sort."""
    assert sorting_us(1, 8192, 4096, "prefill") == pytest.approx(990.0, rel=0.25)


def test_one_sequence_merges_the_lists_of_all_cores() -> None:
    many, one = sorting_us(24, 4, 65536), sorting_us(1, 4, 65536)
    spread = 4 * (4.36 * 65536 + 3.32 * 2048) / 2 / 48 / 1.8e9 * 1e6
    assert many == pytest.approx(24 * spread, rel=1e-6)  # a core per sequence: nothing to merge
    assert one - spread == pytest.approx(25.0, rel=0.1)
    assert sorting_us(1, 1, 65536) - spread / 4 == pytest.approx(12.5, rel=0.1)


def test_the_next_generation_sorts_blocks() -> None:
    (time,) = _priced(16, 2, 2048, "decode", 512, NEXT)
    cycles = 32 * (111 / 256 * 2048 + 192)
    assert time == pytest.approx(cycles / NEXT.clock_hz / (2 * NEXT.matrix_cores), rel=0.15)


def test_layers_and_drafts_of_the_recipes_sort_in_the_kernel() -> None:
    deployment = Deployment(dp=16, ep=16, dp_attention=True, mtp_tokens=1, framework="cann-recipes")
    shape = Shape("decode", np.array([4.0]), np.array([64.0]), 2.0, 4096.0)

    def choices(system: str, one: Deployment) -> set[tuple[str, bool]]:
        plan = plan_of(load_model("deepseek-v3.2"), load_system(system).chip, one, shape)
        assert any(isinstance(o, Gemm) for b in plan.blocks for o in b.operators)
        return {(o.part, o.fused) for b in plan.blocks for o in b.operators if isinstance(o, Vector) and o.op == "topk"}

    parts = ("attention/topk", "attention/merge", "mtp/attention/topk", "mtp/attention/merge")
    assert choices("cm384:16", deployment) == {(part, True) for part in parts}
    other = replace(deployment, framework="sglang")
    assert choices("dgx-h800:16", other) == {("attention/topk", False), ("mtp/attention/topk", False)}


def test_scores_and_sort_hide_each_other() -> None:
    """64 heads score 65,536 keys for longer than they are sorted: the choice adds nothing but the merging."""
    deployment = Deployment(dp=16, ep=16, dp_attention=True, mtp_tokens=1, framework="cann-recipes")
    case = InferenceCase(load_model("deepseek-v3.2"), load_system("cm384:16"), deployment, "decode", 4.0, kv_len=65536)
    times = {o.part: scalar(p.time_s) for b in anatomy(case).blocks if b.block.layer for o, p in b.operators}
    assert times["attention/topk"] == 0.0
    assert times["attention/merge"] > 4e-6


def test_scores_use_all_cores_whatever_the_number_of_sequences() -> None:
    def scores_us(sequences: float) -> float:
        call = Attention(
            part="attention/index", batch=sequences, q_len=4.0, kv_len=65536.0, heads=64.0, kv_heads=1.0,
            qk_head_dim=128.0, v_head_dim=1.0, causal=False, phase="decode", latent=True,
        )  # fmt: skip
        return float(CostEngine(A3, library="serving").price([call])[0].time_s) * 1e6

    one, four, sixteen = (scores_us(n) for n in (1.0, 4.0, 16.0))
    assert four - one == pytest.approx(3.0 * (one - 11.0), rel=0.05)
    assert sixteen - four == pytest.approx(12.0 * (one - 11.0), rel=0.05)
