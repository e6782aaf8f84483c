"""Memory against published arithmetic and measurements of the states that formulas determine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supertwin.machine.systems import load_system
from supertwin.model.load import load_model
from supertwin.training import Layout, TrainingCase, memory

GIB = 2**30


def job(model: str, system: str, layout: Layout, **changes: object) -> TrainingCase:
    case = TrainingCase(
        model=load_model(model), system=load_system(system), layout=layout, micro_batch=1, global_batch=64, seq_len=4096
    )
    return replace(case, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "layout", "seq_len", "measured_gib"),
    [
        ("llama3-70b-l12", Layout(tp=8), 4096, 28.29),
        ("llama3-70b-l12", Layout(tp=4, dp=2), 4096, 39.07),
        ("llama3-70b-l12", Layout(pp=2, dp=4), 4096, 66.55),
        ("llama3-70b-l12", Layout(cp=8), 32768, 104.51),
        ("deepseek-v3-l4-dense1", Layout(dp=8, ep=8), 4096, 104.3),
    ],
)
def test_simumax_peaks(model: str, layout: Layout, seq_len: int, measured_gib: float) -> None:
    """Max allocated of Megatron-Core on 8 B200 (SimuMax validation tables); nothing was fitted to them."""
    case = job(model, "dgx-b200:8", layout, seq_len=seq_len, sequence_parallel=layout.tp > 1, framework="megatron-core")
    assert memory(case).peak_bytes / GIB == pytest.approx(measured_gib, rel=0.04)


def test_zero_stages_share_states() -> None:
    """arXiv 1910.02054, figure 1: (2 + 2 + 12) bytes per weight, shared by stage over 64 ranks."""
    weights = 8.03e9
    peaks = {}
    for stage in ("none", "zero1", "zero2", "zero3"):
        case = job("llama3.1-8b", "dgx-h100:64", Layout(dp=64), sharding=stage, framework="deepspeed")
        m = memory(case)
        peaks[stage] = (m.parameters_bytes, m.gradients_bytes, m.optimizer_bytes)
    expected = {"none": (1, 1, 1), "zero1": (1, 1, 64), "zero2": (1, 64, 64), "zero3": (64, 64, 64)}
    for stage, shares in expected.items():
        for got, per_weight, share in zip(peaks[stage], (2.0, 2.0, 12.0), shares, strict=True):
            assert got == pytest.approx(per_weight * weights / share, rel=0.01)


def test_recomputation_orders_activations() -> None:
    sizes = [
        memory(job("llama3.1-70b", "dgx-h100:64", Layout(tp=8, pp=4, dp=2), recompute=mode)).activations_bytes
        for mode in ("full", "selective", "none")
    ]
    assert sizes[0] < 0.25 * sizes[1]
    assert sizes[1] <= sizes[2]


def test_partial_recomputation_is_between() -> None:
    layout = Layout(tp=8, pp=4, dp=2)
    low, half, high = (
        memory(job("llama3.1-70b", "dgx-h100:64", layout, **c)).activations_bytes
        for c in ({"recompute": "full"}, {"recompute": "partial", "recompute_layers": 10}, {"recompute": "none"})
    )
    assert low < half < high


def test_lora_needs_no_states_for_the_base() -> None:
    full = memory(job("llama3.1-70b", "dgx-h100:8", Layout(tp=8)))
    lora = memory(job("llama3.1-70b", "dgx-h100:8", Layout(tp=8), task="lora"))
    assert lora.optimizer_bytes < 0.01 * full.optimizer_bytes
    assert lora.gradients_bytes < 0.01 * full.gradients_bytes
