"""Matrix products: published timings, physical bounds, monotonicity, one formula for numbers and arrays."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.core.formats import number_format
from supertwin.cost.calibration import Calibration, load_calibration
from supertwin.cost.gemm import GemmConditions, GemmCost, candidate_names, gemm_cost
from supertwin.machine.chip import Chip
from supertwin.machine.chips import load_chip
from supertwin.workload.operators import Gemm

SIZES = st.integers(1, 32768)
CHIPS = ("h100-sxm", "gb200", "ascend-910c-die", "a100-sxm-80gb", "h20", "mi300x")


def cost(chip: Chip, gemm: Gemm, **conditions: object) -> GemmCost:
    return gemm_cost(chip, load_calibration(chip, "gemm"), gemm, GemmConditions(**conditions))  # type: ignore[arg-type]


def tflops(chip_name: str, gemm: Gemm, **conditions: object) -> float:
    found = cost(load_chip(chip_name), gemm, **conditions)
    return float(found.flop / found.time_s / 1e12)


def test_flagperf_8192_cubed_on_910b() -> None:
    """FlagPerf 1b5a0303, base/benchmarks/computation-*/ascend: BF16 304.3, INT8 608.6 TFLOP/s."""
    assert tflops("ascend-910b2", Gemm(part="g", m=8192, n=8192, k=8192)) == pytest.approx(304.3, rel=0.06)
    assert tflops("ascend-910b2", Gemm(part="g", m=8192, n=8192, k=8192, dtype="int8")) == pytest.approx(
        608.6, rel=0.06
    )


@pytest.mark.parametrize(
    ("groups", "m", "n", "k", "share"),
    [
        (4, 7168, 4096, 4096, 0.794),
        (4, 2048, 7168, 4096, 0.774),
        (4, 7168, 4096, 8192, 0.827),
        (8, 2048, 7168, 4096, 0.779),
    ],
)
def test_int8_grouped_gemm_of_the_910c(groups: int, m: int, n: int, k: int, share: float) -> None:
    """arXiv 2506.12708v2, Table 10: utilisation of 752 TOPS per die."""
    found = tflops("ascend-910c-die", Gemm(part="g", m=m, n=n, k=k, groups=groups, dtype="int8"))
    assert found / 752.0 == pytest.approx(share, rel=0.05)


def test_weight_streaming_on_910b() -> None:
    """aiconfigurator-npu 90d7765: median 1,233 GB/s of weights for M = 1, N, K >= 4096 (best 1,460)."""
    found = cost(load_chip("ascend-910b2"), Gemm(part="g", m=1, n=8192, k=8192))
    assert 8192 * 8192 * 2 / found.time_s / 1e9 == pytest.approx(1233, rel=0.08)


def test_best_shape_of_the_h100() -> None:
    """stas00/ml-engineering MAMF: 794.5 TFLOP/s at 2048 x 2048 x 13312, H100 SXM BF16."""
    found = tflops("h100-sxm", Gemm(part="g", m=2048, n=2048, k=13312), context="best-shape", weights_cold=False)
    assert found == pytest.approx(794.5, rel=0.06)


def test_training_products_of_the_b200_are_power_limited() -> None:
    """SimuMax training_gemm_simumax.csv, B200: long BF16 products run at 1,050 to 1,150 TFLOP/s, short ones above."""
    long = tflops("b200-sxm", Gemm(part="g", m=16384, n=16384, k=8192), context="cublas-training", weights_cold=False)
    short = tflops("b200-sxm", Gemm(part="g", m=4096, n=8192, k=2048), context="cublas-training", weights_cold=False)
    assert 1000 < long < 1180
    assert short > 1.1 * long


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(CHIPS), SIZES, SIZES, SIZES, st.sampled_from(["bf16", "fp8-blockwise", "int8"]))
def test_never_beats_the_data_sheet(name: str, m: int, n: int, k: int, dtype: str) -> None:
    chip = load_chip(name)
    found = cost(chip, Gemm(part="g", m=m, n=n, k=k, dtype=dtype))
    stored = number_format(dtype)
    assert found.time_s >= 0.999 * 2.0 * m * n * k / chip.peak(stored.rate)
    assert found.time_s >= 0.999 * n * k * stored.bytes_per_element / chip.memory_bytes_per_s


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(CHIPS), SIZES, SIZES, SIZES, st.floats(1.0, 3.0), st.sampled_from(["memory", "l2", "peak", "cache"])
)
def test_a_better_chip_is_never_slower(name: str, m: int, n: int, k: int, factor: float, what: str) -> None:
    chip = load_chip(name)
    calibration = load_calibration(chip, "gemm")
    better = {
        "memory": replace(chip, memory_bytes_per_s=chip.memory_bytes_per_s * factor),
        "l2": replace(chip, l2_bytes_per_s=chip.l2_bytes_per_s * factor),
        "peak": replace(chip, peak_flop_per_s={r: v * factor for r, v in chip.peak_flop_per_s.items()}),
        "cache": replace(chip, l2_bytes=chip.l2_bytes * factor),
    }[what]
    for context in ("", "cublas-training"):
        conditions = GemmConditions(context=context, weights_cold=False)
        gemm = Gemm(part="g", m=m, n=n, k=k)
        before = gemm_cost(chip, calibration, gemm, conditions).time_s
        assert gemm_cost(better, calibration, gemm, conditions).time_s <= before * (1 + 1e-9)


@settings(max_examples=40, deadline=None)
@given(SIZES, SIZES, SIZES)
def test_cold_weights_are_never_faster_than_a_loop(m: int, n: int, k: int) -> None:
    chip = load_chip("h100-sxm")
    gemm = Gemm(part="g", m=m, n=n, k=k)
    assert cost(chip, gemm).time_s >= cost(chip, gemm, weights_cold=False).time_s * (1 - 1e-9)


def test_arrays_and_numbers_give_the_same_times() -> None:
    chip = load_chip("h100-sxm")
    m, n, k, groups = (
        np.array(x, dtype=float) for x in ([1, 77, 4096], [512, 7168, 128], [7168, 256, 512], [1, 16, 64])
    )
    stack = cost(chip, Gemm(part="g", m=m, n=n, k=k, groups=groups))
    for i in range(3):
        one = cost(chip, Gemm(part="g", m=m[i], n=n[i], k=k[i], groups=groups[i]))
        for field in fields(GemmCost):
            assert getattr(one, field.name) == pytest.approx(getattr(stack, field.name)[i], rel=1e-12)


def test_broadcast_shape_is_kept() -> None:
    sweep = np.arange(1.0, 13.0).reshape(3, 4)
    assert cost(load_chip("h100-sxm"), Gemm(part="g", m=sweep, n=1024, k=1024)).time_s.shape == (3, 4)
    assert cost(load_chip("h100-sxm"), Gemm(part="g", m=1, n=1024, k=1024)).time_s.shape == ()


def test_work_is_counted() -> None:
    found = cost(load_chip("h100-sxm"), Gemm(part="g", m=3, n=5, k=7, groups=2))
    assert found.flop == 2 * 2 * 3 * 5 * 7
    assert found.bytes == 2 * (2 * (3 * 7 + 5 * 7 + 3 * 5))
    gradient = cost(load_chip("h100-sxm"), Gemm(part="g", m=3, n=5, k=7, direction="wgrad", out_dtype="fp32"))
    assert gradient.bytes == 2 * (3 * 7 + 5 * 7) + 2 * 4 * 3 * 5  # accumulated in FP32: read and written


def test_weight_only_quantisation_pays_at_small_m_only() -> None:
    chip = load_chip("a100-sxm-80gb")
    small = [float(cost(chip, Gemm(part="g", m=1, n=8192, k=8192, weight_dtype=w)).time_s) for w in ("", "int4")]
    large = [float(cost(chip, Gemm(part="g", m=4096, n=8192, k=8192, weight_dtype=w)).time_s) for w in ("", "int4")]
    assert small[1] < 0.7 * small[0]
    assert large[1] > 0.95 * large[0]


def test_quantising_the_input_costs_a_pass() -> None:
    chip = load_chip("ascend-910c-die")
    plain, passed = (
        float(cost(chip, Gemm(part="g", m=64, n=4096, k=7168, dtype="int8", quantize_input=q)).time_s)
        for q in (False, True)
    )
    assert 1e-6 < passed - plain < 15e-6


def test_names_go_from_the_nearest_group_to_the_farthest() -> None:
    assert candidate_names("bf16/int4", "")[:2] == ["bf16/int4", "bf16/int8"]
    assert candidate_names("grouped:fp16", "vllm")[:4] == ["vllm:grouped:fp16", "grouped:fp16", "vllm:fp16", "fp16"]
    assert candidate_names("mxfp4", "")[-1] == "bf16"


def test_a_chip_without_calibration_gets_documented_priors() -> None:
    chip = load_chip("h100-sxm")
    found = gemm_cost(chip, Calibration("gemm", "new-chip"), Gemm(part="g", m=8192, n=8192, k=8192))
    assert 0.5 < found.flop / found.time_s / chip.peak("bf16") < 0.85
