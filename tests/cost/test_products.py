"""Products of many formats, kinds and directions in one call against sweeps, which price one format at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from supertwin.cost.engine import CostEngine
from supertwin.machine import load_chip
from supertwin.workload.operators import Gemm

FORMATS = [("bf16", ""), ("fp8", ""), ("bf16", "int4"), ("int8", "int8")]
SIZES = [(16.0, 1.0), (4096.0, 1.0), (64.0, 8.0), (128.0, 512.0)]  # rows, groups: single, experts, strided batch


def products() -> list[Gemm]:
    """Every format with single products, experts, heads and directions."""
    made = [
        Gemm(part="p", m=m, n=7168.0, k=2048.0, groups=groups, dtype=dtype, weight_dtype=weight)
        for dtype, weight in FORMATS
        for m, groups in SIZES
    ]
    heads = [Gemm(part="heads", m=96.0, n=512.0, k=128.0, groups=g) for g in (16.0, 128.0, 1024.0)]
    turned = [replace(p, direction=d, out_dtype="fp32") for p in made[:4] for d in ("dgrad", "wgrad")]
    return [*made, *heads, *turned, *(replace(p, quantize_input=True) for p in made[4:8])]


@pytest.mark.parametrize("chip", ["h100-sxm", "ascend-910c-die", "tpu-v5p"])
@pytest.mark.parametrize(("library", "steady"), [("serving", False), ("serving", True), ("training", False)])
def test_a_mixed_list_costs_what_sweeps_of_one_product_cost(chip: str, library: str, steady: bool) -> None:
    engine = CostEngine(load_chip(chip), library, steady=steady)
    able = [p for p in products() if p.dtype in engine.chip.peak_flop_per_s]
    for product, cost in zip(able, engine.price(able), strict=True):
        sweep = engine.price([replace(product, m=np.array([product.m, 2.0 * float(product.m)]))])[0]
        for name in ("time_s", "compute_s", "memory_s", "overhead_s", "flop", "bytes"):
            np.testing.assert_allclose(getattr(cost, name), getattr(sweep, name)[0], rtol=1e-12, err_msg=str(product))


def test_repeated_operators_share_their_cost() -> None:
    engine = CostEngine(load_chip("h100-sxm"))
    one, other = products()[0], replace(products()[0], part="other")
    first, again, twin = engine.price([one, one, other])
    assert again is first
    assert twin.operator is other
    assert twin[1:] == first[1:]


def test_more_products_than_one_pass_of_tiles_holds() -> None:
    engine = CostEngine(load_chip("h100-sxm"))
    many = [Gemm(part="p", m=float(1 + i), n=512.0, k=512.0, dtype=("bf16", "fp8")[i % 2]) for i in range(3000)]
    together = engine.price(many)
    for index in (0, 1, 2047, 2048, 2049, 2999):
        alone = engine.price([many[index]])[0]
        np.testing.assert_allclose(together[index].time_s, alone.time_s, rtol=1e-12)


def served_s(chip: str, m: float, dtype: str, steady: bool) -> float:
    product = Gemm(part="p", m=m, n=28672.0, k=4096.0, dtype=dtype)
    return float(CostEngine(load_chip(chip), "serving", steady=steady).price([product])[0].time_s)


def test_long_and_short_products_run_at_one_clock_under_load() -> None:
    """A100, BF16: long products lose 18.6 % of their rate, so one of 1.5 ms takes up to 1 / 0.814 as long."""
    slower = served_s("a100-sxm-80gb", 2048.0, "bf16", True) / served_s("a100-sxm-80gb", 2048.0, "bf16", False)
    assert 1.10 < slower < 1.23
    long = served_s("a100-sxm-80gb", 1e6, "bf16", True) / served_s("a100-sxm-80gb", 1e6, "bf16", False)
    assert long < 1.02


@pytest.mark.parametrize(
    ("chip", "m", "dtype"),
    [("a100-sxm-80gb", 8.0, "bf16"), ("h200-sxm", 2048.0, "fp8"), ("ascend-910c-die", 2048.0, "bf16")],
)
def test_memory_and_narrow_products_keep_their_pace_under_load(chip: str, m: float, dtype: str) -> None:
    """Products bound by memory, products in 8 bits, and a chip whose long products keep the clock."""
    assert served_s(chip, m, dtype, True) == pytest.approx(served_s(chip, m, dtype, False), rel=1e-3)
