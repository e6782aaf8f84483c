"""Prefill of models with attention sinks in vLLM on Ampere: the unified Triton kernel, bound by L2."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supertwin.inference import Deployment
from supertwin.inference.curves import prefill_shape
from supertwin.inference.engines import engine
from supertwin.inference.step import step
from supertwin.inference.unified import attention_s, further_s
from supertwin.machine import load_system
from supertwin.model import load_model

ONE = Deployment(tp=1, weight_dtype="bf16", activation_dtype="bf16", kv_dtype="bf16", framework="vLLM 0.11.0")


def further(system: str, framework: str, model: str) -> float:
    found, chosen = load_system(system), load_model(model)
    deployment = replace(ONE, framework=framework)
    about = engine(framework, found.chip)
    alone = step(chosen, found, deployment, prefill_shape(deployment, 1.0, 8000.0, 8000.0))
    return further_s(chosen, deployment, found.chip, about, (8000.0, 8000.0), alone)


def test_kernel_of_the_pull_request() -> None:
    """PR 20690: 10,000 tokens of Llama-3.1-8B on H100 in 0.66 s, of which 0.26 s are products, 0.01 vector work."""
    chip = load_system("dgx-h100:1").chip
    found = attention_s(load_model("llama-3.1-8b"), ONE, chip, 10_000.0, 10_000.0)
    assert found == pytest.approx(0.39, rel=0.03)


def test_only_sinks_on_ampere_in_vllm() -> None:
    assert further("dgx-a100:1", "vLLM 0.11.0", "gpt-oss-20b") > 0.0
    assert further("dgx-h100:1", "vLLM 0.11.0", "gpt-oss-20b") == 0.0
    assert further("dgx-a100:1", "SGLang 0.5.4", "gpt-oss-20b") == 0.0
    assert further("dgx-a100:1", "vLLM 0.11.0", "qwen3-8b") == 0.0


def test_windows_bound_the_keys_and_cached_tokens_ask_nothing() -> None:
    """Half of the layers see 128 keys: twice the tokens take little more than four times half of them; a cached prefix
    is read but its queries are not run."""
    model, chip = load_model("gpt-oss-20b"), load_system("dgx-a100:1").chip
    whole = attention_s(model, ONE, chip, 16_000.0, 16_000.0)
    assert whole / attention_s(model, ONE, chip, 8000.0, 8000.0) == pytest.approx(4.0, rel=0.05)
    last = attention_s(model, ONE, chip, 16_000.0, 8000.0)
    assert whole - attention_s(model, ONE, chip, 8000.0, 8000.0) == pytest.approx(last, rel=1e-6)
