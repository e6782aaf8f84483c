"""Kernels of a profiled training step on Ascend 910B3 (Ascend/msprof-analyze, kernel_details.csv)."""

from __future__ import annotations

import pytest

from supertwin.calibration import ascend_profile as profile
from supertwin.cost.engine import CostEngine
from supertwin.machine.chips import load_chip
from supertwin.workload.operators import Attention, Gemm, Vector

TRAINING = CostEngine(load_chip(profile.CHIP), library="training")


def attention_us(direction: str, head_dim: float = 128.0, values: float = 0.0) -> float:
    call = Attention(
        part="attention/core", batch=2.0, heads=4.0, kv_heads=4.0, q_len=4096.0, kv_len=4096.0,
        qk_head_dim=head_dim, v_head_dim=values or head_dim, causal=True, direction=direction,
    )  # fmt: skip
    return float(TRAINING.price([call])[0].time_s) * 1e6


@pytest.mark.parametrize(("direction", "measured_us"), [("fwd", 407.2), ("bwd", 759.6)])
def test_attention_takes_the_profiled_time(direction: str, measured_us: float) -> None:
    """FlashAttentionScore and FlashAttentionScoreGrad: means of four calls each."""
    assert attention_us(direction) == pytest.approx(measured_us, rel=0.01)


def test_matrix_and_vector_cores_take_turns() -> None:
    """Half the head size halves the products and leaves the exponentials: far more than half of the time remains."""
    for direction, least in (("fwd", 0.75), ("bwd", 0.65)):
        share = attention_us(direction, 64.0) / attention_us(direction)
        assert least < share < 0.9


@pytest.mark.parametrize(
    ("tokens", "measured_us"), [(1024, 58.461), (2048, 70.801), (4096, 118.302), (8192, 353.147), (16384, 1118.462)]
)
def test_another_device_agrees(tokens: int, measured_us: float) -> None:
    """Not fitted: torch_npu's forward kernel on a 910B2, one head of 128 without mask (hw-native-sys/pto-isa,
    kernels/manual/common/flash_atten/README.md)."""
    call = Attention(
        part="attention/core", batch=1.0, heads=1.0, kv_heads=1.0, q_len=float(tokens), kv_len=float(tokens),
        qk_head_dim=128.0, v_head_dim=128.0, causal=False,
    )  # fmt: skip
    seconds = float(CostEngine(load_chip("ascend-910b2"), library="training").price([call])[0].time_s)
    assert seconds * 1e6 == pytest.approx(measured_us, rel=0.09)


def test_serving_keeps_its_kernel() -> None:
    """The inference kernel of vllm-ascend is another one: 322.9 TFLOP/s at 8192 tokens without causal halving."""
    call = Attention(
        part="attention/core", batch=8.0, heads=32.0, kv_heads=32.0, q_len=8192.0, kv_len=8192.0,
        qk_head_dim=128.0, v_head_dim=128.0, causal=True,
    )  # fmt: skip
    seconds = float(CostEngine(load_chip("ascend-910b2"), library="serving").price([call])[0].time_s)
    assert 4.0 * 8 * 32 * 8192.0**2 * 128 / seconds == pytest.approx(322.9e12, rel=0.05)


def test_weight_gradients_take_the_profiled_time_in_the_mean() -> None:
    ratio = 1.0
    for m, n, k, measured_s in profile.WEIGHT_GRADIENTS:
        product = Gemm(part="mlp/up", m=m, n=n, k=k, direction="wgrad")
        ratio *= float(TRAINING.price([product])[0].time_s) / measured_s
    assert ratio == pytest.approx(1.0, abs=0.02)


def test_only_plain_16_bit_products_take_the_factor() -> None:
    groups = {"bf16": {"wgrad": 1.0}, "fp16": {"wgrad": 1.0}, "int8": {"wgrad": 1.0}, "best-shape:bf16": {"wgrad": 1.0}}
    changed = profile.with_weight_gradients(groups, 1.1349)
    assert {name: values["wgrad"] for name, values in changed.items()} == {
        "bf16": 1.135, "fp16": 1.135, "int8": 1.0, "best-shape:bf16": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(profile.VECTORS))
def test_vector_kernels_take_the_profiled_time(name: str) -> None:
    """Medians of a GPT-3 step on 24 cores; the start of a kernel (3 us) comes on top."""
    moved, measured_s = profile.VECTORS[name]
    work = Vector(part="profile", op=name, bytes_read=0.5 * moved, bytes_written=0.5 * moved)
    seconds = float(CostEngine(load_chip("ascend-910b2"), library="training").price([work])[0].time_s)
    assert seconds == pytest.approx(measured_s, rel=0.08)
