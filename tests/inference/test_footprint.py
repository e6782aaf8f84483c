"""Memory beside weights and caches, against what engines print and their code says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supertwin.inference import Deployment, InferenceCase, predict
from supertwin.inference.engines import engine
from supertwin.inference.footprint import (
    GIB,
    MIB,
    SORTED_LOGIT_BYTES,
    activations_bytes,
    buffer_bytes,
    captured_sizes,
    communicators_bytes,
    graphs_bytes,
    low_latency_bytes,
    mc2_bytes,
)
from supertwin.inference.layers import shard_of
from supertwin.inference.memory import cache_room, request_bytes
from supertwin.inference.placement import place
from supertwin.machine import load_system, system_for_chip
from supertwin.model import load_model
from supertwin.workload.shard import Shard

FP8 = {"weight_dtype": "fp8-blockwise", "activation_dtype": "fp8-blockwise"}
NVFP4 = {"weight_dtype": "nvfp4", "activation_dtype": "nvfp4", "kv_dtype": "fp8"}


def room(
    model: str, chip: str, deployment: Deployment, logit_bytes: float = 0.0, **limits: object
) -> tuple[float, float]:
    """(GiB of one device for caches, tokens that they hold)."""
    known, system = load_model(model), system_for_chip(chip, deployment.devices)
    about = replace(engine(deployment.framework, system.chip), **limits)  # type: ignore[arg-type]
    left = cache_room(known, system, deployment, about, logit_bytes)
    shard = shard_of(known, deployment, place(deployment), system.chip, about)
    return left / GIB, left / (float(request_bytes(known, deployment, shard, 1000.0)) / 1000.0)


@pytest.mark.parametrize(
    ("model", "chip", "deployment", "limits", "tokens"),
    [
        # vllm issue 21348: Qwen3-235B-A22B-FP8 on four H100, GPU KV cache size 178,880 tokens
        ("qwen3-235b-a22b", "h100-sxm", Deployment(tp=4, framework="vLLM 0.9.2", **FP8), {}, 178_880),  # type: ignore[arg-type]
        # the same issue: SGLang with mem-fraction-static 0.93, 367,404 tokens
        (
            "qwen3-235b-a22b", "h100-sxm", Deployment(tp=4, framework="SGLang 0.4.9", **FP8),  # type: ignore[arg-type]
            {"memory_fraction": 0.93, "static_memory": True}, 367_404,
        ),
        # vllm pull request 2031: Llama2-7B on one A100-80GB, 7,351 blocks of 16
        ("llama-2-7b", "a100-sxm-80gb", Deployment(framework="vLLM 0.2.4"), {"max_num_seqs": 256}, 7351 * 16),
    ],
)  # fmt: skip
def test_tokens_that_engines_print(
    model: str, chip: str, deployment: Deployment, limits: dict[str, object], tokens: float
) -> None:
    """Engines without FlashInfer: logits are sorted in plain PyTorch."""
    assert room(model, chip, deployment, SORTED_LOGIT_BYTES, **limits)[1] == pytest.approx(tokens, rel=0.03)


def test_tokens_of_a_wide_nvfp4_engine() -> None:
    """vllm issue 45178: MiniMax-M2.5 NVFP4, DEP2 on B200: 769,888 tokens in both ranks' caches of 0.9 of the memory
    (without an estimate of graphs), 334 requests of 2,304 tokens."""
    d = Deployment(dp=2, ep=2, dp_attention=True, framework="vLLM 0.20", **NVFP4)  # type: ignore[arg-type]
    found = [room("minimax-m2.5", "b200", d, logit_bytes)[1] for logit_bytes in (SORTED_LOGIT_BYTES, 0.0)]
    assert found[0] < 769_888 < found[1]


def test_profile_of_llama_8b() -> None:
    """vllm pull request 10511: activation peak 1.26 GiB with 256 sequences, with tp 1 and tp 2 alike."""
    model = load_model("llama-3.1-8b")
    for tp in (1, 2):
        peak = activations_bytes(model, Shard(tp=tp), 2048.0, 256.0, SORTED_LOGIT_BYTES)
        assert float(peak) / GIB == pytest.approx(1.26, rel=0.1)


def test_profile_of_gpt_oss_leaves_nothing_on_one_h100() -> None:
    """vllm issue 23278: 65.97 GiB of weights, 1,024 sequences: -2.14 GiB of 0.9 x 79.1 GiB are left."""
    model = load_model("gpt-oss-120b")
    peak = float(activations_bytes(model, Shard(), 8192.0, 1024.0, SORTED_LOGIT_BYTES)) / GIB
    assert 0.9 * 79.1 - 65.97 - peak == pytest.approx(-2.14, abs=0.3)


def test_long_steps_peak_in_the_widest_block() -> None:
    """Llama-70B on tp 8, 8,192 tokens: the stream twice and 3 x 28,672 / 8 values of the MLP, 2 B each."""
    model = load_model("llama-3.1-70b")
    expected = 8192 * 2.0 * (2 * 8192 + 3 * 28672 / 8)
    assert float(activations_bytes(model, Shard(tp=8), 8192.0, 1.0)) == pytest.approx(expected)
    assert float(activations_bytes(model, Shard(tp=8), 16.0, 16.0)) == pytest.approx(
        16 * (6.0 * model.vocab + 4.0 * model.hidden)
    )


@pytest.mark.parametrize(("most", "sizes"), [(512, 51), (256, 35), (8, 4), (1, 1), (2048, 51)])
def test_sizes_that_vllm_captures(most: int, sizes: int) -> None:
    """51 graphs for 512 (log of vllm issue 50576: 51/51), 1, 2, 4 and every 8 up to 256."""
    assert captured_sizes(most) == sizes


def test_graphs_follow_the_engine() -> None:
    chip, npu = load_system("dgx-h100:8").chip, load_system("cm384:8").chip
    d = Deployment(tp=8)
    assert graphs_bytes(engine("vLLM 0.9.2"), chip, d) == 51 * 24 * MIB
    assert graphs_bytes(engine("SGLang 0.5.3"), chip, d) == 2 * 512 * MIB
    assert graphs_bytes(engine("TensorRT-LLM 0.17"), chip, d) == 0.0
    assert graphs_bytes(engine("vLLM-Ascend"), npu, d) < 0.1 * GIB
    one = predict(InferenceCase(load_model("llama-3.1-8b"), load_system("dgx-h100:1"),
                                Deployment(framework="vLLM 0.11"), "decode", 8.0, kv_len=1024))  # fmt: skip
    assert one.memory.workspace_bytes == pytest.approx((51 * 24 / 1024 + 0.66) * GIB)


def test_vllm_takes_graphs_out_of_its_share_from_0_21_on() -> None:
    """VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS: 51 graphs less for the cache."""
    old, new = (room("llama-3.1-8b", "h100-sxm", Deployment(framework=f"vLLM 0.{v}.0"))[0] for v in (20, 21))
    assert old - new == pytest.approx(51 * 24 / 1024)


def test_each_group_has_a_communicator_on_ascend() -> None:
    npu, gpu = load_system("cm384:64").chip, load_system("dgx-h100:8").chip
    assert communicators_bytes(npu, place(Deployment())) == 0.0
    assert communicators_bytes(npu, place(Deployment(tp=4))) == 400 * MIB
    both = Deployment(tp=4, dp=16, ep=64, dp_attention=True)
    assert communicators_bytes(npu, place(both)) == 800 * MIB
    assert communicators_bytes(gpu, place(Deployment(tp=8))) == communicators_bytes(gpu, place(Deployment(tp=2))) > 0.0


def test_low_latency_buffers_of_deepep() -> None:
    """config.hpp, LowLatencyLayout, DeepSeek-R1 with 288 experts and 128 tokens: two sets of 288 x 128 messages to send
    (7,168 x 2 + 56 x 4 B) and to receive (the larger one), and of counters."""
    send, receive = 7168 * 2 + 56 * 4, max(16 + 7168 * 2, 7168 * 2 + 56 * 4)
    expected = 2 * (288 * 128 * (send + receive) + 288 * 4)
    assert low_latency_bytes(128.0, 7168.0, 288.0) == expected
    model, system = load_model("deepseek-r1"), load_system("dgx-h800:32")
    d = Deployment(dp=32, ep=32, dp_attention=True, redundant_experts=32, framework="SGLang + DeepEP", **FP8)  # type: ignore[arg-type]
    about, p = engine(d.framework, system.chip), place(d)
    shard = shard_of(model, d, p, system.chip, about)
    sizes = [float(buffer_bytes(model, p, n, shard, about, "nvidia")) for n in (32.0, 128.0, 256.0, 16384.0)]
    assert sizes == [expected, expected, pytest.approx(2 * expected, rel=1e-4), GIB]


def test_window_of_mc2() -> None:
    """cann-recipes-infer, calc_moe_hccl_buffer_size: 16 local experts, 24 tokens, 16 ranks, top-8, hidden 7,168:
    align512(ceil480(align32(14,336) + 44)) = 30 x 512; 14,336 is a multiple of 512."""
    expected = 2 * (16 * 24 * 16 * 30 * 512 + 8 * 24 * 14336)
    assert mc2_bytes(24.0, 7168.0, 16, (8, 256.0)) == expected
