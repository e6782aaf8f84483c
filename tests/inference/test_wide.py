"""Expert parallelism from one device to a whole supernode, with and without replicas; matrices cut over ranks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supertwin.inference import Deployment, InferenceCase, predict
from supertwin.inference.layouts import with_replicas
from supertwin.machine import load_system
from supertwin.model import load_model

INT8 = {"weight_dtype": "int8", "activation_dtype": "int8", "framework": "CloudMatrix-Infer"}


def wide(ep: int, **changes: object) -> InferenceCase:
    d = Deployment(dp=ep, ep=ep, dp_attention=True, **{**INT8, **changes})  # type: ignore[arg-type]
    return InferenceCase(load_model("deepseek-r1"), load_system(f"cm384:{ep}"), d, "decode", 32.0, kv_len=4096)


@pytest.mark.parametrize("ep", [16, 24, 32, 48, 64, 96, 128, 144, 192, 256, 288, 320, 384, 512, 768])
def test_every_width_is_priced_and_balance_orders_it(ep: int) -> None:
    perfect, natural = (predict(wide(ep, expert_balance=b)) for b in ("perfect", "natural"))
    assert perfect.step_time_s <= natural.step_time_s
    assert natural.tokens_per_s_per_device > 50.0


def test_wider_groups_hold_less_and_read_less() -> None:
    """Weights per device fall with the width down to one expert; balanced decode gets faster (CM384 paper, 4.2.1)."""
    found = [predict(wide(ep, expert_balance="perfect")) for ep in (16, 64, 256)]
    weights = [p.memory.parameters_bytes for p in found]
    assert weights == sorted(weights, reverse=True)
    rates = [p.tokens_per_s_per_device for p in found]
    assert rates == sorted(rates)


@pytest.mark.parametrize(("ep", "replicas"), [(32, 32), (320, 64), (144, 32), (96, 32)])
def test_a_balancer_gets_whole_slots(ep: int, replicas: int) -> None:
    """DeepSeek: 32 redundant experts on EP32 in prefill and on EP144 in decode (open-infra-index, day 6)."""
    case = with_replicas(wide(ep))
    assert case.deployment.redundant_experts == replicas
    assert (256 + replicas) % ep == 0
    assert predict(case).step_time_s < predict(wide(ep)).step_time_s


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("output_tp", 61 * 128 * 128 * 7168 * 7 / 8),
        ("dense_tp", 3 * 3 * 18432 * 7168 * 7 / 8),
        ("head_tp", 129280 * 7168 * 7 / 8 * 2),
    ],
)
def test_matrices_cut_over_ranks_leave_memory(name: str, saved: float) -> None:
    """INT8 layers (1 B), head in BF16; counted from the dimensions of DeepSeek-V3."""
    whole, cut = wide(32), wide(32, **{name: 8})
    less = predict(whole).memory.parameters_bytes - predict(cut).memory.parameters_bytes
    assert less == pytest.approx(saved, rel=0.01)
    assert predict(replace(whole, batch=1.0)).step_time_s != predict(replace(cut, batch=1.0)).step_time_s
