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
@pytest.mark.parametrize("library", ["serving", "training"])
def test_a_mixed_list_costs_what_sweeps_of_one_product_cost(chip: str, library: str) -> None:
    engine = CostEngine(load_chip(chip), library)
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
