"""Memory by placement: published buffers, and weights that add up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supertwin.inference import engines
from supertwin.inference.case import Deployment
from supertwin.inference.layers import shard_of
from supertwin.inference.memory import (
    buffer_bytes,
    expert_workspace_bytes,
    largest_batch,
    sequence_bytes,
    weights_bytes,
)
from supertwin.inference.placement import place
from supertwin.machine import load_system
from supertwin.model import load_model
from supertwin.model.parameters import parameter_count


def test_exchange_buffers_of_the_cm384_paper() -> None:
    """arXiv 2506.12708v2 section 4.2.1: 225 + 420 = 645 MB (binary) per die for 320 ranks of 96 tokens."""
    model, system = load_model("deepseek-r1"), load_system("cm384:320")
    d = Deployment(
        dp=320, ep=320, dp_attention=True, weight_dtype="int8", activation_dtype="int8", framework="CloudMatrix-Infer"
    )
    p = place(d)
    engine = engines.engine(d.framework, system.chip)
    shard = shard_of(model, d, p, system.chip, engine)
    assert buffer_bytes(model, p, 96, shard, engine) / 2**20 == pytest.approx(645, rel=0.01)


@pytest.mark.parametrize(("name", "tp"), [("llama-3.1-70b", 8), ("llama-3.1-405b", 8), ("qwen3-32b", 4)])
def test_weights_of_all_ranks_add_up(name: str, tp: int) -> None:
    model, system = load_model(name), load_system("dgx-h100:8")
    d = Deployment(tp=tp)
    shard = shard_of(model, d, place(d), system.chip, engines.engine(""))
    assert tp * weights_bytes(model, d, shard) == pytest.approx(2.0 * parameter_count(model).total, rel=0.01)


def test_latent_cache_per_token() -> None:
    """DeepSeek-V3: 576 values per token and layer, 61 layers, BF16 = 70,272 bytes (arXiv 2412.19437)."""
    model, system = load_model("deepseek-r1"), load_system("dgx-h800:8")
    d = Deployment(tp=8, ep=8, weight_dtype="fp8", activation_dtype="fp8")
    shard = shard_of(model, d, place(d), system.chip, engines.engine(""))
    assert sequence_bytes(model, shard, 1.0) == pytest.approx(576 * 61 * 2)


def test_longer_requests_fit_less_often() -> None:
    model, system = load_model("llama-3.1-70b"), load_system("dgx-h100:4")
    d = Deployment(tp=4)
    engine = engines.engine("vLLM 0.11", system.chip)
    few, many = (largest_batch(model, system, d, n, engine) for n in (8192.0, 1024.0))
    assert few > 0
    assert many == pytest.approx(8 * few, rel=1e-6)


@pytest.mark.parametrize(
    ("framework", "name"),
    [
        ("TensorRT-LLM 1.0", "tensorrt-llm-pytorch"),
        ("TensorRT-LLM 0.17", "tensorrt-llm"),
        ("TensorRT-LLM 0.18.2", "tensorrt-llm"),
        ("TensorRT-LLM 0.20", "tensorrt-llm-pytorch"),
        ("TensorRT-LLM 1.0.0", "tensorrt-llm-pytorch"),
        ("TensorRT 10.11, CUDA 12.9", "mlperf-tensorrt"),
        ("vLLM 0.6.0", "vllm-v0"),
        ("vLLM 0.11.0", "vllm"),
        ("vLLM nightly", "vllm-async"),
        ("vLLM-Ascend P/D", "vllm-ascend"),
        ("SGLang + DeepEP, P/D", "sglang-deepep"),
        ("cann-recipes (torchair)", "cann-recipes"),
        ("", "generic"),
    ],
)
def test_engine_names(framework: str, name: str) -> None:
    assert engines.engine(framework).name == name


def test_experts_of_attention_ranks_keep_room_for_the_tokens_of_all() -> None:
    """TensorRT-LLM, moe_max_num_tokens: max_num_tokens x dp. Qwen3-235B: 8 copies of 8,192 tokens per rank, each 3 B x
    4,096 and 5 B x 1,536."""
    model, engine = load_model("qwen3-235b-a22b"), engines.engine("TensorRT-LLM 1.0")
    one = expert_workspace_bytes(model, Deployment(), engine)
    assert one == pytest.approx(8192 * 8 * (3 * 4096 + 5 * 1536))
    ranks = expert_workspace_bytes(model, Deployment(dp=8, ep=8, dp_attention=True), engine)
    assert ranks == pytest.approx(8 * one)
    split = expert_workspace_bytes(model, Deployment(tp=8, ep=8), engine)
    assert split == pytest.approx(one)
    assert expert_workspace_bytes(model, Deployment(), engines.engine("SGLang")) == 0.0
    assert expert_workspace_bytes(load_model("llama-3.1-70b"), Deployment(tp=4), engine) == 0.0


def test_logits_of_the_admitted_sequences_take_memory() -> None:
    """10 B per sequence and entry of the vocabulary: the cache of 2,048 admitted sequences is 2.6 GB shorter."""
    model, system = load_model("llama-3.1-70b"), load_system("dgx-h100:4")
    d = Deployment(tp=4, framework="TensorRT-LLM 1.0")
    engine = engines.engine(d.framework, system.chip)
    shard = shard_of(model, d, place(d), system.chip, engine)
    free = largest_batch(model, system, d, 1024.0, replace(engine, logit_bytes=0.0))
    lost = (free - largest_batch(model, system, d, 1024.0, engine)) * sequence_bytes(model, shard, 1024.0)
    assert lost == pytest.approx(engine.memory_fraction * 10.0 * 2048 * model.vocab, rel=0.01)
