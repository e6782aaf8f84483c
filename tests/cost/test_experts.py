"""Experts: published timings, which experts are read, skew, bounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.core.errors import UnknownName
from supertwin.cost.calibration import Calibration, load_calibration
from supertwin.cost.experts import expert_cost, expert_key, expert_names
from supertwin.cost.gemm import GemmCost
from supertwin.machine.chips import load_chip
from supertwin.workload.operators import ExpertMlp

BARE = Calibration("experts", "bare")


def deepseek(rows: float, experts: float = 32, **options: object) -> ExpertMlp:
    return ExpertMlp(part="e", rows=rows, experts=experts, hidden=7168, inter=2048, **options)  # type: ignore[arg-type]


def cost(chip: str, moe: ExpertMlp) -> GemmCost:
    return expert_cost(load_chip(chip), load_calibration(load_chip(chip), "experts"), moe)


@pytest.mark.parametrize(
    ("dtype", "tokens", "us"),
    [
        ("int8", 64, 901),
        ("int8", 256, 1038),
        ("int8", 1024, 1158),
        ("int8", 4096, 2519),
        ("bf16", 64, 1657),
        ("bf16", 1024, 2180),
    ],
)
def test_deepseek_v3_experts_on_910b(dtype: str, tokens: int, us: float) -> None:
    """aiconfigurator-npu 90d7765 (vllm-ascend 0.18.0): 32 local experts of DeepSeek-V3, EP8."""
    found = cost("ascend-910b2", deepseek(tokens, tokens=8 * tokens, dtype=dtype, distribution="uniform"))
    assert found.time_s * 1e6 == pytest.approx(us, rel=0.17)


def test_experts_of_many_rows_run_like_grouped_products_on_the_910c() -> None:
    """arXiv 2506.12708v2, Table 10: grouped INT8 products of 2048 rows per group reach 77 % of 752 TOPS per die."""
    found = cost("ascend-910c-die", deepseek(16 * 2048, 16, dtype="int8", distribution="uniform", routing=False))
    assert 0.5 < found.flop / found.time_s / 752e12 < 0.8


def test_only_used_experts_are_read() -> None:
    chip = load_chip("h100-sxm")
    weight = 3 * 7168 * 2048 * 2.0
    one = expert_cost(chip, BARE, deepseek(1, distribution="uniform", routing=False))
    assert one.bytes == pytest.approx(weight * 32 * -np.expm1(-1 / 32), rel=0.01)
    balanced = expert_cost(chip, BARE, deepseek(16, distribution="balanced", routing=False))
    assert balanced.bytes == pytest.approx(16 * weight, rel=0.01)
    full = expert_cost(chip, BARE, deepseek(100_000, distribution="uniform", routing=False))
    assert full.bytes > 32 * weight
    assert full.flop == 2 * 100_000 * 3 * 7168 * 2048


def test_skewed_routing_uses_fewer_experts_and_more_rows_cost_more() -> None:
    chip = load_chip("h100-sxm")
    even = expert_cost(chip, BARE, deepseek(32, distribution="uniform"))
    uneven = expert_cost(chip, BARE, deepseek(32, distribution="power_law_1.2"))
    assert uneven.bytes < even.bytes
    busy = expert_cost(chip, BARE, deepseek(4096, skew=2.0))
    assert busy.time_s > 1.3 * expert_cost(chip, BARE, deepseek(4096)).time_s
    assert busy.flop == expert_cost(chip, BARE, deepseek(8192)).flop


@pytest.mark.parametrize("given_name", ["zipf", "power_law_x", "power_law_-1", ""])
def test_unknown_distributions_are_refused(given_name: str) -> None:
    with pytest.raises(UnknownName, match="distribution"):
        expert_cost(load_chip("h100-sxm"), BARE, deepseek(8, distribution=given_name))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["h100-sxm", "gb200", "ascend-910c-die"]),
    st.floats(0.1, 1e5),
    st.integers(1, 256),
    st.sampled_from(["balanced", "uniform", "power_law_1.01"]),
    st.floats(1.0, 3.0),
)
def test_more_bandwidth_or_peak_is_never_slower(
    name: str, rows: float, experts: int, distribution: str, factor: float
) -> None:
    chip = load_chip(name)
    calibration = load_calibration(chip, "experts")
    moe = deepseek(rows, experts, distribution=distribution, dtype="int8" if "ascend" in name else "fp8-blockwise")
    before = expert_cost(chip, calibration, moe).time_s
    faster = replace(chip, memory_bytes_per_s=chip.memory_bytes_per_s * factor)
    stronger = replace(chip, peak_flop_per_s={r: v * factor for r, v in chip.peak_flop_per_s.items()})
    assert expert_cost(faster, calibration, moe).time_s <= before * (1 + 1e-9)
    assert expert_cost(stronger, calibration, moe).time_s <= before * (1 + 1e-9)


def test_arrays_and_numbers_give_the_same_times() -> None:
    rows = np.array([[1.0, 50.0], [777.0, 30000.0]])
    stack = cost("h200-sxm", deepseek(rows, dtype="fp8-blockwise", distribution="power_law_1.2"))
    assert stack.time_s.shape == (2, 2)
    for i, value in np.ndenumerate(rows):
        one = cost("h200-sxm", deepseek(float(value), dtype="fp8-blockwise", distribution="power_law_1.2"))
        assert one.time_s == pytest.approx(stack.time_s[i], rel=1e-12)


def test_long_arrays_match_short_ones() -> None:
    rows = np.linspace(1, 60000, 9000)
    found = cost("h100-sxm", deepseek(rows, dtype="fp8-blockwise")).time_s
    for i in (0, 4095, 4096, 8999):
        assert found[i] == pytest.approx(
            float(cost("h100-sxm", deepseek(rows[i], dtype="fp8-blockwise")).time_s), rel=1e-12
        )


def test_groups_of_calibration() -> None:
    assert expert_key(deepseek(1, dtype="bf16", weight_dtype="int4", routing=False)) == "local:bf16/int4"
    assert expert_key(deepseek(1, gated=False)) == "ungated:bf16"
    assert expert_names("int8", "")[:2] == ["int8", "fp8-tensorwise"]
    assert "local:int8" in expert_names("int8", "")


def test_after_a_dispatch_is_cheaper_than_with_routing() -> None:
    for chip, dtype in (("ascend-910c-die", "int8"), ("h100-sxm", "bf16"), ("gb200", "nvfp4")):
        fused, local = (cost(chip, deepseek(64, 4, dtype=dtype, routing=r)).time_s for r in (True, False))
        assert local < fused
