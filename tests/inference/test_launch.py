"""What SGLang decides when it starts: static memory, the pool of recurrent states, the scheduler."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supertwin.core.formats import number_format
from supertwin.inference import Deployment
from supertwin.inference.curves import curves
from supertwin.inference.engines import UNOVERLAPPED_GAP_S, engine
from supertwin.inference.launch import STATES_PER_REQUEST, WIDE_SHARE, scheduled, started, static_share
from supertwin.inference.layers import shard_of
from supertwin.inference.memory import weights_bytes
from supertwin.inference.placement import place
from supertwin.inference.shape import Shape
from supertwin.inference.step import step
from supertwin.machine import load_system
from supertwin.model import load_model

H200 = load_system("dgx-h200:8")
FP8 = Deployment(tp=8, framework="SGLang 0.5.9", weight_dtype="fp8-blockwise", activation_dtype="fp8-blockwise")
SHARED = replace(FP8, tp=1, dp=8, dp_attention=True)
SGLANG = engine("SGLang 0.5.9", H200.chip)


def test_static_memory_of_a_plain_and_of_a_shared_layout() -> None:
    """server_args on H200: 0.5 + 12 GiB for a chunk + 1 + 1 GiB beside the caches; attention ranks that share experts
    reserve 18 GiB more (512 captured sequences x 8 ranks x 4.5 MiB)."""
    size = H200.chip.usable_memory_bytes / 2**30
    assert static_share(H200.chip, FP8, 8192) == pytest.approx(1.0 - 14.5 / size)
    assert static_share(H200.chip, SHARED, 8192) == pytest.approx(1.0 - 32.5 / size)
    assert static_share(H200.chip, replace(FP8, mtp_tokens=3), 8192) == pytest.approx(1.0 - 16.5 / size)
    assert static_share(H200.chip, replace(FP8, tp=1), 8192) == pytest.approx(1.0 - (12.5 + 0.5 + 0.125) / size)


def test_the_pool_of_recurrent_states_bounds_the_requests() -> None:
    """Three slots per running request in 0.9 / 1.9 of what weights leave; other models keep the engine's limit."""
    system, one = load_system("dgx-h200:1"), replace(FP8, tp=1, weight_dtype="bf16", activation_dtype="bf16")
    hybrid, plain = load_model("qwen3.5-9b"), load_model("qwen3-8b")
    found = started(SGLANG, hybrid, system, one)
    assert 100 < found.max_num_seqs < 400
    rest = found.memory_fraction * system.chip.usable_memory_bytes
    rest -= weights_bytes(hybrid, one, shard_of(hybrid, one, place(one), system.chip, found), found)
    state = 24 * (32 * 128 * 128 * 4 + 8192 * 3 * 2)
    assert found.max_num_seqs == int(rest * 0.9 / 1.9 / state) // STATES_PER_REQUEST
    assert started(SGLANG, plain, system, one).max_num_seqs == SGLANG.max_num_seqs


def test_recurrent_layers_switch_overlap_off() -> None:
    hybrid, plain = load_model("qwen3.5-9b"), load_model("qwen3-8b")
    assert scheduled(SGLANG, hybrid, FP8).step_gap_s == UNOVERLAPPED_GAP_S
    assert scheduled(SGLANG, plain, FP8) == SGLANG
    vllm = engine("vLLM 0.17.1", H200.chip)
    assert started(vllm, hybrid, H200, FP8) == vllm


def test_gathered_matrices_leave_room_for_caches() -> None:
    """Head, dense MLPs and shared experts of DeepSeek-V3 over eight attention ranks instead of on each."""
    model = load_model("deepseek-v3")
    copied = replace(SGLANG, gathers_dense=False)
    shard = shard_of(model, SHARED, place(SHARED), H200.chip, SGLANG)
    saved = weights_bytes(model, SHARED, shard, copied) - weights_bytes(model, SHARED, shard, SGLANG)
    head, mlp, shared = 129280 * 7168 * 2, 3 * 3 * 7168 * 18432, 58 * 3 * 7168 * 2048
    value = number_format("fp8-blockwise").bytes_per_element
    assert saved == pytest.approx((head + (mlp + shared) * value) * 7 / 8, rel=1e-3)


def test_wide_instances_state_their_static_memory() -> None:
    """sgl-project/sglang issue 6017: --mem-fraction-static 0.82; the default would reserve half of the device."""
    model, system = load_model("deepseek-v3"), load_system("gb200-nvl72:48")
    wide = Deployment(
        tp=1, dp=48, ep=48, dp_attention=True, weight_dtype="fp8", activation_dtype="fp8", framework="SGLang"
    )
    assert static_share(system.chip, wide, 8192) < 0.6
    assert started(engine("SGLang"), model, system, wide).memory_fraction == WIDE_SHARE
    narrow = replace(wide, dp=8, ep=8)
    assert started(engine("SGLang"), model, system, narrow).memory_fraction == static_share(system.chip, narrow, 8192)


@pytest.mark.parametrize("batch", [1.0, 200.0])
def test_vllm_ascend_waits_for_its_host_in_every_layer_before_full_graphs(batch: float) -> None:
    """832 us of a decode block of Qwen3-VL-30B-A3B on two 910B3 (vllm-ascend issue 9404), 48 layers; beside them the
    device works, so that a large batch waits for less."""
    model, old = load_model("qwen3-30b-a3b"), Deployment(tp=2, framework="vLLM-Ascend 0.9.1")
    about, system = engine(old.framework), load_system("atlas-a2:8")
    assert scheduled(about, model, old).unrecorded_s == pytest.approx(48 * 832e-6)
    for framework in ("vLLM-Ascend 0.19.1rc1", "vLLM-Ascend"):
        assert scheduled(about, model, replace(old, framework=framework)) == about
    at = Shape("decode", batch, batch, 1.0, 4096.0)
    graph, layers = (step(model, system, replace(old, framework=f), at) for f in ("vLLM-Ascend", old.framework))
    host = 48 * 832e-6 + about.step_gap_s
    assert layers.time_s == pytest.approx(max(float(graph.time_s), host))
    lengths, ready = (4096.0, 4096.0, 2.0, 1.0), scheduled(about, model, old)
    loaded = curves(model, system, (old, old), lengths, ready)
    assert float(loaded.step(batch)) == pytest.approx(max(float(loaded.device(batch)), host))


def test_steps_scheduled_ahead_need_the_overlapped_scheduler() -> None:
    system = load_system("dgx-h200:1")
    one = replace(FP8, tp=1)
    assert scheduled(SGLANG, load_model("qwen3-8b"), one).ahead_steps == 1
    assert scheduled(SGLANG, load_model("qwen3-8b"), replace(one, mtp_tokens=3)).ahead_steps == 0
    assert scheduled(SGLANG, load_model("qwen3.5-9b"), one).ahead_steps == 0
    assert [engine(f"vLLM {v}", system.chip).ahead_steps for v in ("0.11.0", "0.17.1")] == [0, 1]
