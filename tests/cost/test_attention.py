"""Attention: published numbers, bounds that no kernel can beat, invariants, choice of kernels."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.core.errors import UnknownName
from supertwin.cost.attention import AttentionModel, variant_distance, variant_of
from supertwin.cost.attention_kernels import Variant
from supertwin.machine.chips import load_chip
from supertwin.workload.operators import Attention

MODELS = {
    name: AttentionModel(load_chip(name)) for name in ("h100-sxm", "b200-sxm", "a100-sxm-80gb", "ascend-910c-die")
}


def prefill(**changes: object) -> Attention:
    call = Attention(part="a", batch=1, q_len=4096, kv_len=4096, heads=32, kv_heads=8, qk_head_dim=128, v_head_dim=128)
    return replace(call, **changes)  # type: ignore[arg-type]


def decode(**changes: object) -> Attention:
    return prefill(**{"batch": 64, "q_len": 1, "phase": "decode", **changes})


def seconds(chip: str, call: Attention, library: str = "") -> float:
    model = AttentionModel(load_chip(chip), library) if library else MODELS[chip]
    return float(model.cost(call).time_s)


@pytest.mark.parametrize(
    ("library", "causal", "length", "batch", "printed_tflops"),
    [
        ("fa3", False, 16384, 1, 648),  # flash-attention repository, FA3 FP16 forward figures, H100, head size 128
        ("fa3", True, 16384, 1, 616),
        ("fa3", True, 2048, 8, 521),
        ("fa2", True, 16384, 1, 335),
        ("cudnn", False, 8192, 2, 600),
    ],
)
def test_forward_on_h100(library: str, causal: bool, length: int, batch: int, printed_tflops: float) -> None:
    call = prefill(q_len=length, kv_len=length, batch=batch, heads=16, kv_heads=16, causal=causal, dtype="fp16")
    flop = 4.0 * batch * 16 * length**2 * 128 * (0.5 if causal else 1.0)
    assert flop / seconds("h100-sxm", call, library) / 1e12 == pytest.approx(printed_tflops, rel=0.08)


def test_latent_decode_on_910c() -> None:
    """65.4 % of 376 TFLOP/s and 84.1 % of 1.6 TB/s: arXiv 2506.12708v2, tables 8 and 9."""
    latent = {"qk_head_dim": 576, "v_head_dim": 512, "kv_heads": 1, "latent": True, "kv_len": 32768, "batch": 128}
    full = decode(**latent, heads=128, q_len=2)
    flop = 2.0 * 128 * 2 * 128 * 32768 * (576 + 512)
    assert flop / seconds("ascend-910c-die", full) == pytest.approx(245.9e12, rel=0.03)
    thin = decode(**latent, heads=16)
    assert 128 * 32768 * 576 * 2.0 / seconds("ascend-910c-die", thin) == pytest.approx(1346e9, rel=0.03)


def test_sparse_prefill_reaches_what_flashmla_prints() -> None:
    """640 TFLOP/s on H800 (FlashMLA README): every query computes its picked keys with 128 heads."""
    call = prefill(
        heads=128, kv_heads=1, kv_len=2048, qk_head_dim=576, v_head_dim=512, latent=True, gathered=True, causal=False
    )
    flop = 2.0 * 4096 * 128 * 2048 * (576 + 512)
    assert flop / seconds("h800-sxm", call, "serving") == pytest.approx(640e12, rel=0.05)


powers = st.integers(0, 6)


@given(batch=powers, length=st.integers(4, 14), heads=st.integers(0, 6), chip=st.sampled_from(["h100-sxm", "b200-sxm"]))
@settings(max_examples=120, deadline=None)
def test_nothing_beats_the_hardware(batch: int, length: int, heads: int, chip: str) -> None:
    model, hardware = MODELS[chip], load_chip(chip)
    many = 2**heads
    call = prefill(batch=2**batch, q_len=2**length, kv_len=2**length, heads=many, kv_heads=max(many // 4, 1))
    times = model.cost(call)
    assert times.time_s > times.flop / hardware.peak("bf16")
    step = decode(batch=2**batch, kv_len=2**length, heads=many, kv_heads=max(many // 4, 1))
    times = model.cost(step)
    assert times.time_s > 0.97 * times.bytes / hardware.memory_bytes_per_s


@given(
    chip=st.sampled_from(sorted(MODELS)),
    field=st.sampled_from(["batch", "q_len", "kv_len"]),
    batch=powers,
    length=st.integers(6, 13),
)
@settings(max_examples=100, deadline=None)
def test_four_times_the_work_is_not_faster(chip: str, field: str, batch: int, length: int) -> None:
    call = prefill(batch=2**batch, q_len=2**length, kv_len=2**length)
    more = {"batch": {"batch": 4 * 2**batch}, "q_len": {"q_len": 4 * 2**length, "kv_len": 4 * 2**length}}
    wider = replace(call, **more.get(field, {"kv_len": 4 * 2**length}))
    assert seconds(chip, wider) > 0.95 * seconds(chip, call)
    step = decode(batch=2**batch, kv_len=2**length)
    longer = replace(step, kv_len=4 * 2**length) if field != "batch" else replace(step, batch=4 * 2**batch)
    if seconds(chip, step) > 60e-6:  # shorter ones really drop where a kernel stops splitting or fills a wave
        assert seconds(chip, longer) > 0.95 * seconds(chip, step)


def test_a_window_saves_time_and_formats_save_bytes() -> None:
    assert seconds("h100-sxm", prefill(q_len=16384, kv_len=16384, window=1024)) < 0.5 * seconds(
        "h100-sxm", prefill(q_len=16384, kv_len=16384)
    )
    long = decode(kv_len=32768)
    assert seconds("h100-sxm", replace(long, kv_dtype="fp8")) < 0.7 * seconds("h100-sxm", long)


def test_backward_takes_longer_than_forward_and_counts_more() -> None:
    forward = AttentionModel(load_chip("b200-sxm"), "training").cost(prefill())
    backward = AttentionModel(load_chip("b200-sxm"), "training").cost(prefill(direction="bwd"))
    assert backward.flop == pytest.approx(2.5 * forward.flop)
    assert 2.0 * forward.time_s < backward.time_s < 6.0 * forward.time_s


def test_two_tokens_per_step_cost_little_while_memory_binds() -> None:
    """Multi-token prediction reads the cache once for both tokens."""
    one, two = (seconds("h100-sxm", decode(kv_len=8192, q_len=q)) for q in (1, 2))
    assert one <= two < 1.35 * one


@pytest.mark.parametrize("chip", ["h100-sxm", "b200-sxm", "a100-sxm-80gb", "ascend-910c-die"])
@pytest.mark.parametrize("heads", [(64, 64), (32, 8), (32, 2), (8, 1)])
def test_more_new_tokens_take_longer_but_not_more_than_each_alone(chip: str, heads: tuple[int, int]) -> None:
    """The residual of one new token holds for more; the kernel of prompts takes over where it is faster."""
    shape = {"batch": 16, "kv_len": 8192, "heads": heads[0], "kv_heads": heads[1], "qk_head_dim": 128}
    times = [seconds(chip, decode(**shape, v_head_dim=128, q_len=q)) for q in (1, 2, 3, 4, 8)]
    assert all(a <= b * 1.03 for a, b in pairwise(times))  # a residual of the prompts' kernel
    assert min(times) == times[0]
    assert all(t <= times[0] * q * 1.0001 for t, q in zip(times, (1, 2, 3, 4, 8), strict=True))


def test_many_new_tokens_run_in_the_kernel_of_prompts() -> None:
    shape = {"batch": 16, "q_len": 16, "kv_len": 8192, "heads": 32, "kv_heads": 2}
    many = decode(**shape)
    assert seconds("h100-sxm", many) == seconds("h100-sxm", replace(many, phase="prefill"))
    assert seconds("h100-sxm", many) > 2.0 * seconds("h100-sxm", replace(many, q_len=1))


def test_arrays_equal_scalars() -> None:
    lengths = np.array([128.0, 1000.0, 8192.0, 60000.0])
    for make in (prefill, decode):
        together = (
            MODELS["h100-sxm"].cost(make(kv_len=lengths, **({"q_len": lengths} if make is prefill else {}))).time_s
        )
        alone = [seconds("h100-sxm", make(kv_len=x, **({"q_len": x} if make is prefill else {}))) for x in lengths]
        np.testing.assert_allclose(together, alone, rtol=1e-12)


def test_kind_of_kernel() -> None:
    assert variant_of(prefill(qk_head_dim=192)).kind == "mla"
    assert variant_of(decode(qk_head_dim=576, v_head_dim=512, latent=True)).name == "decode/mla/576/bf16/bf16"
    assert variant_of(prefill(gathered=True)).kind == "sparse"
    assert variant_of(prefill(v_head_dim=1, dtype="fp8", kv_dtype="fp8")).kind == "indexer"
    assert variant_of(prefill(dtype="int8", kv_dtype="int8", causal=False)).name == "prefill/gqa/128/fp8/fp8/full"


def test_the_wanted_library_of_a_relative_wins() -> None:
    """H200 has serving tables of its own; training kernels were measured on H100."""
    training = AttentionModel(load_chip("h200-sxm"), "training")
    for direction in ("fwd", "bwd"):
        kernel = training.kernel(Variant("prefill", "gqa", 128, direction=direction))
        assert kernel.calibration.chip == "h100-sxm"
        assert kernel.calibration.family == "attention-cudnn"
    assert AttentionModel(load_chip("h200-sxm")).kernel(Variant("prefill", "gqa", 128)).calibration.chip == "h200-sxm"


def test_unknown_library_is_refused() -> None:
    with pytest.raises(UnknownName, match="sglang"):
        AttentionModel(load_chip("h100-sxm"), "sglan")


def test_nearest_kernel_stands_in_and_widens_the_interval() -> None:
    wanted = Variant("prefill", "gqa", 96)
    assert variant_distance(wanted, "prefill/gqa/128/bf16/bf16") < variant_distance(wanted, "prefill/gqa/64/bf16/bf16")
    assert variant_distance(wanted, "decode/gqa/96/bf16/bf16") >= 50.0
    model = MODELS["h100-sxm"]
    assert model.kernel(wanted).spread > model.kernel(Variant("prefill", "gqa", 128)).spread


@pytest.mark.parametrize("chip", ["mi300x", "tpu-v5p", "gaudi2", "l40s", "h20", "ascend-950dt", "b300"])
def test_inherited_kernels_are_within_reach_of_the_hardware(chip: str) -> None:
    hardware = load_chip(chip)
    times = AttentionModel(hardware).cost(prefill(batch=4, q_len=8192, kv_len=8192))
    assert 0.1 < times.flop / hardware.peak("bf16") / times.time_s < 0.95
    step = AttentionModel(hardware).cost(decode(batch=128, kv_len=16384))
    assert 0.25 < step.bytes / hardware.memory_bytes_per_s / step.time_s < 1.0


@pytest.mark.parametrize(
    ("chip", "causal", "q_len", "forward", "backward"),
    [
        ("mi300x", False, 8192, 591.37, 473.0),
        ("mi300x", True, 8192, 518.29, 481.895),
        ("mi300x", True, 4096, 474.385, 420.265),
        ("mi355x", False, 8192, 1412.91, 1159.28),
        ("mi355x", True, 16384, 1392.485, 1162.805),
    ],
)
def test_amd_kernels_against_the_published_table(
    chip: str, causal: bool, q_len: int, forward: float, backward: float
) -> None:
    """ROCm/aiter, op_tests/cpp/mha/README.md: one sequence, 64 query and 8 KV heads of 128, BF16, backward a16."""
    model = AttentionModel(load_chip(chip), "training")
    for direction, measured in (("fwd", forward), ("bwd", backward)):
        op = Attention(
            part="x", batch=1, q_len=q_len, kv_len=q_len, heads=64, kv_heads=8, qk_head_dim=128, v_head_dim=128,
            causal=causal, direction=direction,
        )  # fmt: skip
        times = model.cost(op)
        assert float(times.flop / times.time_s) / 1e12 == pytest.approx(measured, rel=0.15)
