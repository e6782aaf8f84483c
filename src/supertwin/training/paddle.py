"""Profiles of PaddleNLP."""

from __future__ import annotations

from dataclasses import replace

from supertwin.training.framework import BASE, GATED_APART, NORM_APART, ROTARY_APART, Framework


def paddle_profiles() -> tuple[Framework, ...]:
    """PaddleNLP of 2023 on Paddle 2.5: GPT, LLaMA with the fused norm, LLaMA without it."""
    gpt = replace(
        BASE,
        name="paddle",
        dp_overlap=False,
        tp_backward_overlap=False,
        gradient_bytes=2.0,
        reduce_bytes=2.0,
        attention="fa2",
        attention_passes=2.0,
        accumulation_fused=False,
        dropout=True,
        bias_apart=True,
        reason="PaddleNLP scripts without overlap options; Paddle 2.5 is older than FlashAttention-2, which is around "
        "2 times faster than the first (arXiv 2307.08691, abstract); dropout 0.1 (transformers/gpt/configuration.py); "
        "mp_async_allreduce is off by default",
    )
    llama = replace(
        gpt,
        name="paddle-llama",
        rotary_passes=ROTARY_APART,
        activation_passes=GATED_APART,
        reason=f"{gpt.reason}; rotary, gated activation by tensor operations (transformers/llama/modeling.py)",
    )
    plain = replace(
        llama, name="paddle-llama-plain", norm_passes=NORM_APART, reason=f"{llama.reason}; use_fused_rms_norm=False"
    )
    return gpt, llama, plain
