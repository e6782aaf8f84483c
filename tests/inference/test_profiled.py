"""What vLLM holds beside weights and caches, against what it printed when it loaded gpt-oss-120b."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supertwin.inference import Deployment
from supertwin.inference.engines import engine
from supertwin.inference.layers import shard_of
from supertwin.inference.memory import largest_batch, memory_of, request_bytes
from supertwin.inference.placement import place
from supertwin.inference.plan import expert_kernels
from supertwin.inference.profiled import SAMPLER_BYTES, sampler_bytes
from supertwin.machine import load_system
from supertwin.model import load_model

GIB = 2.0**30
MODEL = load_model("gpt-oss-120b")
MXFP4 = Deployment(weight_dtype="mxfp4", activation_dtype="bf16", kv_dtype="bf16", framework="vLLM 0.11.0")


@pytest.mark.parametrize(
    ("system", "framework", "printed_gib"),
    [("dgx-h100:1", "vLLM 0.14.1", 64.38), ("dgx-a100:1", "vLLM 0.11.0", 65.97), ("dgx-a100:1", "SGLang 0.5.3", 60.7)],
)
def test_padded_experts_weigh_what_vllm_prints(system: str, framework: str, printed_gib: float) -> None:
    """ "Model loading took 64.38 GiB" with OpenAI's Triton kernels (vLLM issue 33155), 65.9651 GiB with Marlin (issue
    23278); matrices alone are 60.7 GiB. SGLang takes Triton's layouts too (mxfp4.py, _swizzle_mxfp4)."""
    found = memory_of(MODEL, load_system(system), replace(MXFP4, framework=framework), 1.0, 1.0, 1.0)
    assert found.parameters_bytes / GIB == pytest.approx(printed_gib, rel=0.005)


def test_sglang_to_0_5_6_keeps_all_tokens_in_layers_with_windows() -> None:
    """server_args of 0.5.3 and 0.5.6: disable_hybrid_swa_memory for gpt-oss; half of its layers see 128 tokens."""
    most: dict[str, float] = {}
    for framework in ("SGLang 0.5.3rc0", "SGLang 0.5.6.post2", "SGLang 0.5.9", "SGLang", "vLLM 0.11.0"):
        most[framework] = sequence_bytes_of(replace(MXFP4, framework=framework), 4096.0)
    whole, short = most["SGLang 0.5.3rc0"], most["SGLang 0.5.9"]
    assert whole == most["SGLang 0.5.6.post2"] == 36 * 4096 * 2048
    assert short == most["SGLang"] == most["vLLM 0.11.0"] == 18 * (4096 + 128) * 2048


def sequence_bytes_of(deployment: Deployment, tokens: float) -> float:
    system = load_system("dgx-h200:1")
    shard = shard_of(MODEL, deployment, place(deployment), system.chip, engine(deployment.framework, system.chip))
    return float(request_bytes(MODEL, deployment, shard, tokens))


def test_the_profiled_sampler_takes_memory_from_the_cache() -> None:
    """1,024 x 201,088 logits on H100, 256 of them on A100; no other engine profiles it."""
    h100, a100 = load_system("dgx-h100:1"), load_system("dgx-a100:1")
    about = engine("vLLM 0.11.0", h100.chip)
    assert sampler_bytes(MODEL, about, h100.chip) == SAMPLER_BYTES * 1024 * 201088
    assert sampler_bytes(MODEL, engine("vLLM 0.11.0", a100.chip), a100.chip) == SAMPLER_BYTES * 256 * 201088
    assert sampler_bytes(MODEL, engine("SGLang 0.5.3", h100.chip), h100.chip) == 0.0
    few = replace(about, max_num_seqs=64)
    assert largest_batch(MODEL, h100, MXFP4, 412.0, few) > largest_batch(MODEL, h100, MXFP4, 412.0, about)


def test_mxfp4_experts_of_vllm_are_not_those_of_sglang() -> None:
    """get_mxfp4_backend: OpenAI's Triton kernels on Hopper, which TensorRT-LLM's table has (TRITON on SM90)."""
    chip = load_system("dgx-h100:1").chip
    assert expert_kernels(MXFP4, chip) == ""
    assert expert_kernels(replace(MXFP4, weight_dtype="bf16"), chip) == "sglang"
    assert expert_kernels(replace(MXFP4, framework="SGLang 0.5.3"), chip) == "sglang"
