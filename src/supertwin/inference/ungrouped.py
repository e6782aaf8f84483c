"""Decode sequences beside a prompt in FlashAttention 2: keys are read once per query head.

vLLM runs decodes and prompt chunks of a step in one call of varying lengths. FlashAttention 2 lets the query heads of a
key head share one read of the keys only when no sequence of the call has more than one query (csrc/flash_attn/
flash_api.cpp, seqlenq_ngroups_swapped); else each head is a block of its own, heads being the slowest index of the
grid, so that what lies between two readers of a key is the cache of all sequences: it comes from L2 only as far as that
fits. FlashAttention 3 (Hopper) packs the heads of calls of varying lengths.
"""

from __future__ import annotations

import numpy as np

from supertwin.core.formats import number_format
from supertwin.inference.assumptions import Engine
from supertwin.inference.case import Deployment
from supertwin.inference.residence import Array
from supertwin.inference.times import StepTimes
from supertwin.machine.chip import Chip
from supertwin.model.spec import ModelSpec

_ENGINES = ("vllm", "vllm-async")
_CORE = "attention core"


def ungrouped_s(
    model: ModelSpec, deployment: Deployment, chip: Chip, engine: Engine, step: StepTimes, tokens: Array
) -> Array:
    """What a decode step takes longer when it carries a prompt chunk. step: the decode step alone, tokens: cached ones
    of all sequences on an attention rank; arrays of one shape. 0 where heads are packed or no keys are shared."""
    none = np.zeros_like(np.asarray(tokens, dtype=float))
    blocks = [x.attention for x in model.layers if x.attention is not None]
    if engine.name not in _ENGINES or chip.architecture != "ampere" or any(a.kind != "gqa" or a.sinks for a in blocks):
        return none
    widest = max(blocks, key=lambda a: a.heads / max(a.kv_heads, 1))
    group = (widest.heads / deployment.tp) / max(widest.kv_heads / deployment.tp, 1.0)
    head = 2.0 * widest.qk_head_dim * number_format(deployment.kv_dtype).bytes_per_element
    missed = np.clip(1.0 - chip.l2_bytes / np.maximum(tokens * head, 1.0), 0.0, 1.0)
    core = sum((np.asarray(s) for (part, _), s in step.parts.items() if part == _CORE), start=none)
    return np.asarray((group - 1.0) * missed * core)
