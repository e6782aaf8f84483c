"""Prefill by vLLM's unified Triton attention, which runs what FlashAttention 2 does not: sinks on Ampere.

A block of the kernel has 16 rows, queries of one key head, and reads all keys that they see (vllm/attention/ops/
triton_unified_attention.py of 0.11: BLOCK_M 16, tiles outside a window skipped). Sixteen rows take 16 FLOP from a byte,
so the kernel is bound by the L2 cache. Llama-3.1-8B on H100, 10,000 tokens: 0.66 s with it and 0.37 with larger blocks
(vLLM PR 20690); 0.26 s of products and 0.01 of vector work leave 0.39 s for attention, 0.45 of the L2 rate.
"""

from __future__ import annotations

import numpy as np

from supertwin.core.formats import number_format
from supertwin.inference.case import Deployment
from supertwin.inference.engines import Engine
from supertwin.inference.times import StepTimes
from supertwin.machine.chip import Chip
from supertwin.model.spec import ModelSpec

BLOCK_ROWS = 16
L2_SHARE = 0.45
"""Rate of the L2 cache in that kernel over the figure of the chip file (of which micro-benchmarks reach 60 to 75 %)."""
_ENGINES = ("vllm", "vllm-async")


def attention_s(model: ModelSpec, deployment: Deployment, chip: Chip, input_len: float, new_tokens: float) -> float:
    """Time of all attention of one prompt of input_len tokens, new_tokens of them not cached, on one device."""
    total = 0.0
    for layer in model.layers:
        a = layer.attention
        if a is None or a.kind != "gqa":
            continue
        group = max(a.heads // max(a.kv_heads, 1), 1)
        rows = max(BLOCK_ROWS // group, 1) * group
        seen = input_len - new_tokens / 2.0
        seen = min(seen, a.window) if a.window else seen
        key = 2.0 * a.qk_head_dim * number_format(deployment.kv_dtype).bytes_per_element
        blocks = new_tokens * a.heads / deployment.tp / rows
        total += layer.count * blocks * seen * key
    return total / (L2_SHARE * chip.l2_bytes_per_s)


def further_s(
    model: ModelSpec, deployment: Deployment, chip: Chip, engine: Engine, lengths: tuple[float, float], step: StepTimes
) -> float:
    """What a prompt takes longer than priced. lengths: (input, new) tokens; step: the prefill of one prompt first."""
    sinks = any(x.attention is not None and x.attention.sinks for x in model.layers)
    if engine.name not in _ENGINES or chip.architecture != "ampere" or not sinks:
        return 0.0
    core = sum(float(np.ravel(s)[0]) for (part, _), s in step.parts.items() if part == "attention core")
    return max(attention_s(model, deployment, chip, *lengths) - core, 0.0)
