"""Decodes beside a prompt in vLLM: keys read per query head (FlashAttention 2), padded chunks of gated delta nets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from supertwin.inference import Deployment
from supertwin.inference.beside import CHUNKED_DECODE, beside_s
from supertwin.inference.curves import decode_shape
from supertwin.inference.engines import engine
from supertwin.inference.residence import cycle_s
from supertwin.inference.step import step
from supertwin.machine import load_system
from supertwin.model import load_model
from tests.inference.test_deployment import LINEAR, load

AIR = Deployment(tp=4, weight_dtype="bf16", activation_dtype="bf16", kv_dtype="bf16", framework="vLLM 0.11.0")


def extra(system: str, framework: str, model: str, tokens: float) -> float:
    found = load_system(system)
    deployment = replace(AIR, tp=int(system.rpartition(":")[2]), framework=framework)
    chosen, n = load_model(model), np.array([100.0])
    alone = step(chosen, found, deployment, decode_shape(deployment, n, tokens / 100.0))
    about = engine(framework, found.chip)
    return float(beside_s(chosen, deployment, found.chip, about, alone, np.array([tokens]))[0])


def test_only_flash_attention_2_reads_keys_per_head() -> None:
    """vLLM on A100; Hopper packs the heads of a call of varying lengths, SGLang runs prompts alone, and kernels with
    attention sinks are Triton's, which pack them too."""
    assert extra("dgx-a100:4", "vLLM 0.11.0", "glm-4.5-air", 4e5) > 0.0
    assert extra("dgx-h100:4", "vLLM 0.11.0", "glm-4.5-air", 4e5) == 0.0
    assert extra("dgx-a100:4", "SGLang 0.5.4", "glm-4.5-air", 4e5) == 0.0
    assert extra("dgx-a100:4", "vLLM 0.11.0", "gpt-oss-120b", 4e5) == 0.0


def test_keys_that_fit_in_l2_are_read_once() -> None:
    """40 MiB hold 81,920 tokens of one key head of 128 in 16 bit (512 bytes); else eleven further reads."""
    assert extra("dgx-a100:4", "vLLM 0.11.0", "glm-4.5-air", 81_920.0) == 0.0
    half, whole = (extra("dgx-a100:4", "vLLM 0.11.0", "glm-4.5-air", x) for x in (163_840.0, 1.6e6))
    assert 0.0 < half < whole
    air, system = load_model("glm-4.5-air"), load_system("dgx-a100:4")
    alone = step(air, system, AIR, decode_shape(AIR, np.array([100.0]), 1.6e4))
    core = sum(float(np.ravel(s)[0]) for (part, _), s in alone.parts.items() if part == "attention core")
    assert whole == pytest.approx(11.0 * core * (1.0 - 81_920.0 / 1.6e6))


def test_steps_with_prompts_wait_for_the_further_reads() -> None:
    """Every step that carries a prompt takes the further time; the others do not."""
    slow = replace(LINEAR, beside_s=0.005)
    held = load(mixes_prefill=True)
    plain, waiting = (float(cycle_s(c, held, 32.0, True)) for c in (LINEAR, slow))
    assert waiting - plain == pytest.approx(0.005 * float(LINEAR.chunks(held, 32.0)), rel=1e-6)


def test_decodes_of_gated_delta_nets_run_in_padded_chunks_beside_a_prompt() -> None:
    """PR 44700, one layer: 953 decodes and 7,239 prompt tokens in 4,361.6 us, of which the prompts' are 464.1 per 8,192
    tokens; alone the decodes take 1,843.7. Releases after it split the batch; pure attention has no chunks."""
    together = CHUNKED_DECODE * 1843.7 + 464.1 * 7239 / 8192
    assert together == pytest.approx(4361.6)
    assert 1843.7 * 2.1 < together - 464.1 * 7239 / 8192 < 1843.7 * 2.2
    old, new = (extra("dgx-h100:1", f"vLLM {v}", "qwen3.5-9b", 4e4) for v in ("0.17.1", "0.24.0"))
    assert old > 0.0
    assert new == 0.0
    assert extra("dgx-h100:1", "vLLM 0.17.1", "qwen3-8b", 4e4) == 0.0
