"""What decode sequences cost more beside a prompt chunk than in a step of their own, in vLLM.

FlashAttention 2. Decodes and chunks of a step are one call of varying lengths. The query heads of a key head share one
read of the keys only when no sequence of the call has more than one query (csrc/flash_attn/flash_api.cpp,
seqlenq_ngroups_swapped); else each head is a block of its own, heads being the slowest index of the grid, so that what
lies between two readers of a key is the cache of all sequences: it comes from L2 only as far as that fits.
FlashAttention 3 (Hopper) packs the heads of calls of varying lengths.

Gated delta nets. Before pull request 44700 (2026-06) a step with prompts runs all its tokens by the chunked kernel,
each decode in a padded chunk of 64.
"""

from __future__ import annotations

import numpy as np

from supertwin.core.formats import number_format
from supertwin.inference.case import Deployment
from supertwin.inference.engines import Engine
from supertwin.inference.residence import Array
from supertwin.inference.times import StepTimes
from supertwin.inference.versions import vllm_version
from supertwin.machine.chip import Chip
from supertwin.model.spec import AttentionSpec, ModelSpec

_ENGINES = ("vllm", "vllm-async")
_CORE = "attention core"
CHUNKED_DECODE = (4361.6 - 464.1 * 7239 / 8192) / 1843.7
"""Time of decodes in padded chunks over that of the recurrent kernel: 953 of them beside 7,239 prompt tokens take
4,361.6 us, 8,192 prompt tokens 464.1, 953 decodes alone 1,843.7 (vllm-project/vllm PR 44700, one layer of Qwen3.5)."""
_SPLIT_VERSION = (0, 23, 0)  # assumption: the release after the pull request


def beside_s(
    model: ModelSpec, deployment: Deployment, chip: Chip, engine: Engine, step: StepTimes, tokens: Array
) -> Array:
    """What a decode step takes longer when it carries a prompt chunk. step: the decode step alone, tokens: cached ones
    of all sequences on an attention rank; arrays of one shape."""
    none = np.zeros_like(np.asarray(tokens, dtype=float))
    if engine.name not in _ENGINES or chip.vendor != "nvidia":
        return none
    blocks = [x.attention for x in model.layers if x.attention is not None]
    return _ungrouped_s(blocks, deployment, chip, step, tokens) + _chunked_s(deployment, step, none)


def _ungrouped_s(
    blocks: list[AttentionSpec], deployment: Deployment, chip: Chip, step: StepTimes, tokens: Array
) -> Array:
    none = np.zeros_like(np.asarray(tokens, dtype=float))
    plain = [a for a in blocks if a.kind == "gqa"]
    if chip.architecture != "ampere" or not plain or any(a.sinks or a.kind == "mla" for a in blocks):
        return none
    widest = max(plain, key=lambda a: a.heads / max(a.kv_heads, 1))
    group = (widest.heads / deployment.tp) / max(widest.kv_heads / deployment.tp, 1.0)
    head = 2.0 * widest.qk_head_dim * number_format(deployment.kv_dtype).bytes_per_element
    missed = np.clip(1.0 - chip.l2_bytes / np.maximum(tokens * head, 1.0), 0.0, 1.0)
    core = sum((np.asarray(s) for (part, _), s in step.parts.items() if part == _CORE), start=none)
    return np.asarray((group - 1.0) * missed * core)


def _chunked_s(deployment: Deployment, step: StepTimes, none: Array) -> Array:
    version = vllm_version(deployment.framework)
    if version is None or version >= _SPLIT_VERSION:
        return none
    scans = [c.time_s * n for c, n in step.costs if getattr(c.operator, "op", "") == "scan"]
    return np.asarray((CHUNKED_DECODE - 1.0) * sum((np.asarray(s) for s in scans), start=none))
