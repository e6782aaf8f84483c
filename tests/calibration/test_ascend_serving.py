"""Kernels of running models on Ascend 910C (msModeling 39df672b): shipped constants against the rows they stand on."""

from __future__ import annotations

import numpy as np
import pytest

from supertwin.calibration import ascend_products as products
from supertwin.calibration import ascend_serving as serving
from supertwin.cost.engine import CostEngine
from supertwin.machine.chips import load_chip
from supertwin.workload.operators import Gemm, Vector

ENGINE = CostEngine(load_chip(serving.CHIP), library="serving")
TRAINING = CostEngine(load_chip("ascend-910b2"), library="training")


def vector_us(op: str, tokens: float, values: float, engine: CostEngine = ENGINE) -> float:
    work = Vector(part="x", op=op, bytes_read=tokens * values, bytes_written=tokens * values, tokens=tokens)
    return float(engine.price([work])[0].time_s) * 1e6


def product_us(m: float, n: float, k: float, groups: float = 1.0, dtype: str = "int8", quantize: bool = False) -> float:
    one = Gemm(part="x", m=m, n=n, k=k, groups=groups, dtype=dtype, quantize_input=quantize)
    return float(ENGINE.price([one])[0].time_s) * 1e6


@pytest.mark.parametrize("op", serving.VECTORS)
def test_vector_kernels_take_the_measured_times(op: str) -> None:
    ratios = [vector_us(op, tokens, values) / us for tokens, values, us in serving.VECTORS[op]]
    assert np.exp(np.median(np.log(ratios))) == pytest.approx(1.0, abs=0.1)
    assert np.mean(np.abs(np.log(ratios))) < 0.25


def test_many_tokens_start_more_cores_than_one() -> None:
    """RmsNorm of 7,168: 4.5 us for one token, 18.2 for 256, which read 7 MB (4 us at the rate of the memory)."""
    one, some, all_cores = (vector_us("norm", tokens, 14336) for tokens in (1, 24, 96))
    assert one < 5.0
    assert one < some < all_cores
    assert vector_us("norm", 192, 7168) - vector_us("norm", 96, 7168) < 0.2 * vector_us("norm", 96, 7168)


def test_training_keeps_its_kernels() -> None:
    assert vector_us("norm", 128, 14336, TRAINING) < 0.5 * vector_us("norm", 128, 14336)


def test_int8_products_take_the_measured_times() -> None:
    ratios = [product_us(m, n, k) / us for m, n, k, us in products.INT8]
    assert np.mean(np.abs(np.log(ratios))) < 0.15


def test_products_of_heads_take_the_measured_times() -> None:
    ratios = [product_us(m, n, k, heads, "bf16") / us for m, n, k, heads, us in products.HEADS]
    assert max(abs(np.log(ratios))) < 0.35


def test_quantisation_of_the_input_is_a_pass_of_its_own() -> None:
    """DynamicQuant of 256 tokens of 7,168 takes 24.5 us, of one 3.6."""
    passes = [product_us(m, 4096, 7168, quantize=True) - product_us(m, 4096, 7168) for m in (1, 256)]
    assert passes[0] == pytest.approx(3.6, rel=0.8)
    assert passes[1] == pytest.approx(24.5, rel=0.35)
