"""The fit finds what it is given."""

from __future__ import annotations

import numpy as np
import pytest

from supertwin.calibration.attention_fit import Rows, fit_variant
from supertwin.calibration.attention_rows import attention_row
from supertwin.calibration.attention_training import TrainingRows, fit_training, row_time_s
from supertwin.calibration.common import held_out
from supertwin.calibration.vector_fit import VectorRows, fit_class
from supertwin.cost.attention_kernels import Variant, attention_times
from supertwin.cost.geometry import Shape
from supertwin.cost.vector import VectorWork, vector_times
from supertwin.machine.chips import load_chip

CHIP = load_chip("h100-sxm")
TRUTH = {"start_s": 9e-6, "tile_s": 2e-6, "rate": 0.6, "memory": 0.7, "sharp": 2.0, "rows": 128.0}


def synthetic(noise: float) -> Rows:
    random = np.random.default_rng(1)
    count = 400
    q = 2.0 ** random.integers(4, 14, count)
    heads = 2.0 ** random.integers(2, 7, count)
    full = np.full(count, 128.0)
    shape = Shape(2.0 ** random.integers(0, 6, count), q, q, heads, heads / 2, full, full, np.zeros(count))
    variant = Variant("prefill", "gqa", 128)
    time = attention_times(CHIP, variant, shape, TRUTH).time_s * np.exp(noise * random.standard_normal(count))
    return Rows(variant, "synthetic", shape, time, held_out(shape.batch, q, heads))


def test_fit_recovers_the_rate_and_predicts_held_out_shapes() -> None:
    rows = synthetic(0.01)
    constants, surface = fit_variant(CHIP, rows)
    assert constants["rate"] == pytest.approx(0.6, rel=0.15)
    test = np.flatnonzero(rows.test)
    assert 0.2 < len(test) / len(rows.test) < 0.4
    times = attention_times(CHIP, rows.variant, rows.part(test), constants, surface).time_s
    assert np.median(np.abs(times / rows.measured_s[test] - 1.0)) < 0.03


def test_held_out_rows_are_not_seen() -> None:
    """Spoiling the held-out rows does not move the fit."""
    rows = synthetic(0.0)
    spoiled = Rows(rows.variant, rows.library, rows.shape, np.where(rows.test, 1.0, rows.measured_s), rows.test)
    assert fit_variant(CHIP, rows)[0] == fit_variant(CHIP, spoiled)[0]


def test_training_fit_leaves_one_row_out() -> None:
    """FlashAttention-3 on H100, head size 128, FP16 forward: flash-attention repository figures."""
    printed = {(2048, 0): 625, (4096, 0): 638, (8192, 0): 646, (16384, 0): 648, (1024, 1): 423, (2048, 1): 521,
               (4096, 1): 579, (8192, 1): 602, (16384, 1): 616}  # fmt: skip
    table = [
        {
            "kernel": "attention", "dtype": "fp16", "batch": 16384 // s, "heads": 16, "kv_heads": 16, "head_dim": 128,
            "v_head_dim": 128, "seq_q": s, "seq_kv": s, "causal": causal, "direction": "fwd",
            "measured_tflops": float(t), "flop_count": "causal-halved" if causal else "full", "notes": "FA3",
            "source": "",
        }
        for (s, causal), t in printed.items()
    ]  # fmt: skip
    reads = tuple(attention_row(row) for row in table)
    for left in (0, 3, 6, 8):
        kept = reads[:left] + reads[left + 1 :]
        found = fit_training(CHIP, TrainingRows("fa3", 128, kept))
        forward = found["prefill/gqa/128/bf16/bf16"]
        predicted = row_time_s(CHIP, reads[left], {"fwd": forward, "bwd": forward})
        assert predicted == pytest.approx(reads[left].measured_s, rel=0.12)


def test_vector_fit_recovers_the_share_of_bandwidth() -> None:
    moved = 2.0 ** np.linspace(14, 33, 120)
    zero = np.zeros_like(moved)
    work = VectorWork(moved, zero, zero, zero)
    truth = {"start_s": 3e-6, "memory": 0.6, "l2": 0.4, "row": 1.0, "compute": 0.5}
    time = vector_times(CHIP, truth, work).time_s
    constants, _surface = fit_class(CHIP, VectorRows("add", "", work, time, held_out(np.arange(120))))
    assert constants["memory"] == pytest.approx(0.6, rel=0.05)
    assert constants["start_s"] == pytest.approx(3e-6, rel=0.1)
