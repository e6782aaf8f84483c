"""Matrices that a quantised checkpoint keeps in another format than its dense ones.

| Checkpoint | Matrices | Source |
|---|---|---|
| Ascend INT8 (experts INT8 or INT4), sparse attention | narrow maps of query and keys in BF16, with V4 also the first \
output map and the compressors | cann-recipes-infer, utils/convert_model.py and convert_config.py, "ignore" |
| Ascend INT8, LongCat-Flash (shortcut experts) | all projections of attention in BF16 | same, longcat_flash |
| Ascend INT8, latent attention | the matrix that joins the two inputs of a draft layer in BF16 | same, all |
| NVFP4, latent attention over all keys (DeepSeek-R1) | attention in BF16, dense and shared MLP in NVFP4 | NVIDIA \
Model Optimizer, DeepSeek-R1-FP4: linear operators in transformer blocks but attention (issue 150 there) |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from supertwin.model.spec import AttentionSpec, LayerSpec, ModelSpec
from supertwin.workload.operators import Gemm, Operator
from supertwin.workload.shard import Shard

_MLP = ("mlp/up", "mlp/down", "moe/shared/up", "moe/shared/down")
_JOIN = ("mtp/join",)
_NARROW = ("attention/down", "attention/out_a")
_ATTENTION = (*_NARROW, "attention/q", "attention/out")


def with_kept_formats(
    operators: Sequence[Operator], model: ModelSpec, layer: LayerSpec | None, shard: Shard
) -> list[Operator]:
    """Operators of a layer with the formats of the checkpoint; shard: formats of its dense matrices and experts."""
    block = layer.attention if layer is not None else None
    if block is None:
        return list(operators)
    experts = shard.expert_weight_dtype
    wide = wide_parts(model, block, shard.weight_dtype)
    narrow = _MLP if experts == "nvfp4" and block.kind == "mla" and not block.index_topk else ()
    return [_kept(o, wide, narrow, shard.expert_dtype) for o in operators]


def wide_parts(model: ModelSpec, block: AttentionSpec, weight: str) -> tuple[str, ...]:
    """Parts whose matrices stay in BF16 beside dense matrices of format `weight`."""
    if weight != "int8":
        return ()
    if any(x.shortcut is not None for x in model.layers):
        return (*_ATTENTION, *_JOIN)
    if block.index_topk or block.compress_ratio > 1 or block.output_lora_rank:
        return (*_NARROW, *_JOIN)
    return _JOIN if block.kind == "mla" else ()


def _kept(o: Operator, wide: tuple[str, ...], narrow: tuple[str, ...], multiplied: str) -> Operator:
    """An operator in the checkpoint's format; multiplied: the format in which the chip takes NVFP4 weights."""
    if not isinstance(o, Gemm):
        return o
    part = o.part if o.part in _JOIN else o.part.removeprefix("mtp/")
    if part in wide:
        return replace(o, dtype="bf16", weight_dtype="", quantize_input=False)
    if part in narrow and o.dtype == "bf16":
        return replace(o, dtype=multiplied, weight_dtype="nvfp4", quantize_input=multiplied == "nvfp4")
    return o
