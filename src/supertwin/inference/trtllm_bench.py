"""What `trtllm-bench throughput` gives the engine: the most requests and tokens of a step.

TensorRT-LLM, tensorrt_llm/bench/build/tuning.py (calc_engine_setting, finetune_setting), unchanged from 0.17 to 1.0:
both follow from the cache that the memory holds and from the lengths of the set. Prompts are not cut, so a step takes a
whole one beside a full batch (bench/benchmark/utils/general.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from supertwin.core.formats import number_format
from supertwin.machine.chip import Chip
from supertwin.model.parameters import parameter_count
from supertwin.model.spec import ModelSpec

CACHE_SHARE = 0.95
MOST_REQUESTS = 4096
MOST_TOKENS = 32768
TUNED_FORMATS = ("bf16", "fp16", "fp8", "fp8-blockwise", "fp8-tensorwise", "nvfp4")
"""Formats for which the tool sets them (bench/build/build.py, TUNED_QUANTS); others keep the engine's limits."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one engine: requests per micro-batch (max_batch_size) and tokens per step (max_num_tokens)."""

    batch_size: int
    num_tokens: int


def limits(
    model: ModelSpec, chip: Chip, formats: tuple[str, str], sizes: tuple[int, int], lengths: tuple[float, float]
) -> Limits:
    """formats: of weights and cache; sizes: tp (attention ranks included) and pp; lengths: tokens of prompt, answer."""
    weight, kv = counted_bytes(formats[0]), number_format(formats[1]).bytes_per_element
    tp, pp = sizes
    room = (chip.memory_bytes * tp * pp - parameter_count(model).total * weight) * CACHE_SHARE
    requests = max(room, 0.0) / (token_bytes(model, tp, kv) * sum(lengths))
    raw = min(requests, MOST_REQUESTS) / pp
    batch = _batch_size(raw)
    tokens = _num_tokens(min(raw * (1.0 + lengths[0] / max(lengths[1], 1.0)), MOST_TOKENS))
    return Limits(batch, max(tokens, math.ceil(lengths[0]) + batch))


def counted_bytes(weight: str) -> float:
    """Bytes of a weight as the tool counts it: half a byte per element of an NVFP4 checkpoint, whose elements hold two
    weights each or the scale of 16 (NVIDIA/TensorRT-LLM pull request 13498: 184 instead of 387 GB of DeepSeek-V3.2)."""
    packed = number_format(weight).bytes_per_element
    return 0.5 * packed if weight == "nvfp4" else packed


def token_bytes(model: ModelSpec, tp: int, kv_bytes: float) -> float:
    """Cache of a token over all devices as the tool counts it: at least one key head per device; latent attention as if
    it kept all heads, each hidden / heads wide."""
    total = 0.0
    for layer in model.layers:
        a = layer.attention
        if a is None or a.kind in ("linear", "mamba"):
            continue
        width = model.hidden if a.kind == "mla" else max(tp, a.kv_heads) * a.qk_head_dim
        total += 2.0 * layer.count * width * kv_bytes
    return max(total, 1.0)


def _up(value: float, unit: int) -> int:
    return unit * math.ceil(value / unit)


def _batch_size(raw: float) -> int:
    if raw < 256:
        return max(64, _up(raw, 32))
    return _up(raw, 128 if raw < 1024 else 256)


def _num_tokens(raw: float) -> int:
    if raw < 4096:
        return max(2048, _up(raw, 256))
    return _up(raw, 512 if raw < 8192 else 1024)
