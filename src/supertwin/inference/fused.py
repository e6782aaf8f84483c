"""Quantisation that kernels of Ascend engines do on the way: it starts nothing and moves nothing of its own.

| Kernel | Quantises | Source |
|---|---|---|
| npu_mla_prolog_v3, npu_rms_norm_dynamic_quant (DeepSeek-V4) | narrow query; not to MXFP8 (npu_dynamic_mx_quant) | \
cann-recipes-infer, all models |
| npu_rms_norm_quant, npu_partial_rotary_mul_quant, output of the first output map | input of all maps of attention, \
to HiF8 with one scale per tensor | same, DeepSeek-V4 |
| npu_dequant_swiglu_quant | input of the second matrix of an INT8 MLP or lone expert | same |
| indexer | nothing: it takes the narrow query of the main path | same, indexer.py |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from supertwin.inference.compressors import STATIC, with_compressors
from supertwin.inference.habits import Habits
from supertwin.inference.hyper import with_mixing_kernels
from supertwin.inference.recipe_kernels import with_recipe_kernels
from supertwin.inference.sorting import with_sorting
from supertwin.model.spec import AttentionSpec
from supertwin.workload.operators import Gemm, Operator
from supertwin.workload.shard import Step

_QUERIES = ("attention/q", "attention/index")
_STATIC = ("attention/down", *_QUERIES, "attention/out_a", "attention/out")  # with one scale per tensor
_SECOND = ("mlp/down", "moe/shared/down", "moe/experts")  # an expert alone: only its second product quantises


def in_kernels(operators: list[Operator], block: AttentionSpec | None, step: Step, about: Habits) -> list[Operator]:
    """Operators of a layer (or draft) with attention `block` as the kernels of the engine and chip do them."""
    out = with_fused_kernels(operators, block) if about.fuses else list(operators)
    if about.mixes:
        out = with_mixing_kernels(out)
    if about.starts and block is not None and block.kind == "mla" and block.index_topk:
        out = with_recipe_kernels(out, block)
    if about.compresses and block is not None and block.compress_ratio > 1:
        out = with_compressors(out, block)
    if about.sorts is None or block is None or not block.index_heads:
        return out
    return with_sorting(out, block.index_topk, step, about.sorts)


def with_fused_kernels(operators: Sequence[Operator], block: AttentionSpec | None) -> list[Operator]:
    """Operators of a layer (or draft) with attention `block`, without the quantisation that other kernels do."""
    parts = _SECOND + (_QUERIES if block is not None and block.q_lora_rank > 0 else ())
    return [_taken_over(o, parts) for o in operators]


def _taken_over(o: Operator, parts: tuple[str, ...]) -> Operator:
    if not isinstance(o, Gemm) or not o.quantize_input:
        return o
    part = o.part.removeprefix("mtp/")
    done = part in parts and not (o.dtype == "mxfp8" and part == "attention/q")
    return replace(o, quantize_input=False) if done or (o.dtype == STATIC and part in _STATIC) else o
