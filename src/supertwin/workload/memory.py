"""Bytes per device: weights, cache and activations kept for the backward pass."""

from __future__ import annotations

from dataclasses import dataclass

from supertwin.core.errors import InputError
from supertwin.model.parameters import layer_parameters, norm_parameters
from supertwin.model.spec import AttentionSpec, FeedForwardSpec, LayerSpec, ModelSpec
from supertwin.workload.block import WIDE, bytes_of, stream_rows
from supertwin.workload.core import local_heads, stored_bytes_per_token
from supertwin.workload.feed_forward import expert_rows, shared_is_whole
from supertwin.workload.operators import Real
from supertwin.workload.recurrent import CHUNK, state_bytes, state_values
from supertwin.workload.shard import Shard, Step, minimum

FP32_BYTES = 4.0


@dataclass(frozen=True, slots=True)
class Stage:
    """What one pipeline stage holds: layers of each kind (as in ModelSpec.layers) and the ends."""

    counts: tuple[Real, ...]
    embedding: bool = True
    head: bool = True
    mtp: bool = True


def whole_model(model: ModelSpec) -> Stage:
    """All layers and both ends on one stage."""
    return Stage(tuple(layer.count for layer in model.layers))


@dataclass(frozen=True, slots=True)
class DeviceParameters:
    """Weights on one device. dense: all matrices of the linear format; experts: routed experts; wide: tables, LM head,
    router, norms (kept in BF16 whatever the recipe)."""

    dense: Real
    experts: Real
    wide: Real

    @property
    def total(self) -> Real:
        """All weights."""
        return self.dense + self.experts + self.wide


def layer_device_parameters(model: ModelSpec, layer: LayerSpec, shard: Shard) -> DeviceParameters:
    """Weights of one layer on one device."""
    parts = layer_parameters(model, layer)
    block, feed = parts.attention, parts.feed_forward
    kv = block.kv / minimum(shard.tp, max(layer.attention.kv_heads, 1) if layer.attention else 1)
    shared = feed.shared if shared_is_whole(shard) else feed.shared / shard.tp
    routed = (layer.feed_forward, layer.shortcut)
    number = sum(b.experts for b in routed if b is not None)
    copies = 1 + shard.redundant_experts / number if number else 1.0
    return DeviceParameters(
        block.sharded / shard.tp + kv + block.replicated + feed.dense / shard.tp + shared,
        feed.experts * copies / (shard.ep * shard.etp),
        feed.replicated + parts.norms,
    )


def device_parameters(model: ModelSpec, shard: Shard, stage: Stage | None = None) -> DeviceParameters:
    """Weights of one stage on one device (default: the whole model, MTP modules included)."""
    stage = stage or whole_model(model)
    dense: Real = 0.0
    experts: Real = 0.0
    wide: Real = 0.0
    counted = list(zip(stage.counts, model.layers, strict=True))
    if stage.mtp and model.mtp is not None:
        counted.append((model.mtp_count, model.mtp))
        dense = dense + 2.0 * model.hidden**2 * model.mtp_count
    for count, layer in counted:
        one = layer_device_parameters(model, layer, shard)
        dense, experts, wide = dense + count * one.dense, experts + count * one.experts, wide + count * one.wide
    return DeviceParameters(dense, experts, wide + end_parameters(model, shard, stage))


def end_parameters(model: ModelSpec, shard: Shard, stage: Stage) -> Real:
    """Tables and LM head; a tied table is held once where both ends meet, and twice on separate stages."""
    table = model.vocab * model.hidden / shard.tp
    tables = int(stage.embedding) + int(stage.head)
    if model.tied_embeddings and tables == 2:
        tables = 1
    learned = model.max_positions * model.hidden if model.positions == "learned" and stage.embedding else 0
    return tables * table + learned + (norm_parameters(model) if stage.head else 0.0)


def weights_bytes(model: ModelSpec, shard: Shard, stage: Stage | None = None) -> Real:
    """Bytes of stored weights on one device, in the formats of the shard."""
    held = device_parameters(model, shard, stage)
    dense = bytes_of(shard.weight_dtype or shard.linear_dtype)
    experts = bytes_of(shard.expert_weight_dtype or shard.expert_dtype)
    return held.dense * dense + held.experts * experts + held.wide * 2.0


def _caches(model: ModelSpec, stage: Stage | None) -> list[tuple[Real, AttentionSpec]]:
    stage = stage or Stage(tuple(layer.count for layer in model.layers), mtp=False)
    counted = list(zip(stage.counts, model.layers, strict=True))
    if stage.mtp and model.mtp is not None:
        counted.append((model.mtp_count, model.mtp))
    return [(count, layer.attention) for count, layer in counted if layer.attention is not None]


def kv_bytes_per_token(model: ModelSpec, shard: Shard, stage: Stage | None = None) -> Real:
    """Bytes that one more token of context adds per device at long context (windows and states add nothing).

    MTP modules count only when a stage asks for them. DeepSeek-V3: 61 x 576 x 2 = 70,272 bytes.
    """
    total: Real = 0.0
    for count, block in _caches(model, stage):
        if block.compress_ratio > 1 or not (block.window or block.chunk):
            total = total + count * stored_bytes_per_token(block, shard)
    return total / shard.cp


def kv_bytes(model: ModelSpec, kv_len: Real, shard: Shard, stage: Stage | None = None) -> Real:
    """Bytes of cache and recurrent state of one sequence of kv_len tokens on one device."""
    total: Real = 0.0
    for count, block in _caches(model, stage):
        if block.kind in ("linear", "mamba"):
            total = total + count * state_bytes(block, shard)
            continue
        one = stored_bytes_per_token(block, shard) / shard.cp
        limit = block.window or block.chunk
        if block.compress_ratio > 1:
            near = one * block.compress_ratio * minimum(kv_len, block.window)
            total = total + count * (one * kv_len + near)
        else:
            total = total + count * one * (minimum(kv_len, limit) if limit else kv_len)
    return total


@dataclass(frozen=True, slots=True)
class Recompute:
    """What is kept for the backward pass.

    mode: none, selective (scores of the attention core are computed again), full (only the layer input is kept);
    flash: the attention kernel keeps one FP32 number per head and token instead of the score matrix;
    dropout: masks of one byte are kept (GPT-3 style training).
    """

    mode: str = "none"
    flash: bool = True
    dropout: bool = False

    def __post_init__(self) -> None:
        if self.mode not in ("none", "selective", "full"):
            raise InputError(f"recompute is {self.mode!r}, expected none, selective or full")


def activation_bytes(model: ModelSpec, layer: LayerSpec, step: Step, shard: Shard, keep: Recompute) -> Real:
    """Bytes that one layer keeps for one micro-batch on one device.

    Korthikanti et al. (arXiv 2205.05198), section 4, item by item, generalised to grouped-query and latent attention,
    gated and expert feed-forward and FP8 inputs. For its GPT layer: s b h (10 + 24/t + 5 a s / (h t)).
    """
    rows = step.tokens(shard)
    own = stream_rows(rows, shard)
    if keep.mode == "full":
        return own * model.hidden * 2.0
    total: Real = 0.0
    blocks = (layer.feed_forward, layer.shortcut)
    entries = sum(1 for b in (layer.attention, *blocks) if b is not None)
    # norm input and output-dropout mask of each block; the norm output is the input of its first matrix
    total = total + own * model.hidden * entries * (2.0 + (1.0 if keep.dropout else 0.0))
    if layer.norms >= 4:
        total = total + own * model.hidden * 2.0 * entries
    if layer.attention is not None:
        total = total + attention_activations(model, layer.attention, step, shard, keep)
    for block in blocks:
        if block is not None:
            total = total + feed_forward_activations(model, block, rows, shard)
    return total


def saved(dtype: str) -> float:
    """Bytes of a saved matrix input: narrow formats are saved as quantised."""
    return 2.0 if dtype in WIDE else bytes_of(dtype)


def attention_activations(model: ModelSpec, block: AttentionSpec, step: Step, shard: Shard, keep: Recompute) -> Real:
    """Kept tensors of one attention block without its norm input."""
    rows = step.tokens(shard)
    own = stream_rows(rows, shard)
    narrow = saved(shard.linear_dtype)
    heads, kv_heads = local_heads(block, shard)
    first = own * model.hidden * narrow
    if block.kind in ("linear", "mamba"):
        return first + recurrent_activations(block, rows, shard)
    out = rows * heads * block.v_head_dim * 2.0
    if block.kind == "mla":
        ranks = own * (block.q_lora_rank + block.kv_lora_rank + block.qk_rope_head_dim) * (2.0 + narrow)
        triple = rows * heads * (2 * block.qk_head_dim + block.v_head_dim) * 2.0 + ranks
    else:
        triple = rows * (heads + kv_heads * block.kv_vectors) * block.qk_head_dim * 2.0
        triple = triple + own * block.q_lora_rank * (2.0 + narrow)
    gate = 2 * out if block.gate else 0.0
    return first + triple + out + gate + score_activations(heads, step, rows, keep)


def score_activations(heads: Real, step: Step, rows: Real, keep: Recompute) -> Real:
    """Softmax output (2 bytes), its dropout mask (1) and dropout output (2) per score; FP32 statistics with flash."""
    if keep.flash:
        return rows * heads * FP32_BYTES
    if keep.mode == "selective":
        return 0.0
    return rows * heads * step.kv_len * (5.0 if keep.dropout else 2.0)


def recurrent_activations(block: AttentionSpec, rows: Real, shard: Shard) -> Real:
    """Inputs and outputs of the convolution, gate, output, and the state at each chunk."""
    key = block.linear_key_heads * block.linear_key_head_dim / shard.tp
    value = block.linear_value_heads * block.linear_value_head_dim / shard.tp
    mixed = 2 * (2 * key + value)
    states = state_values(block, shard) / CHUNK[block.kind]
    return rows * (mixed + 3 * value + states) * 2.0


def feed_forward_activations(model: ModelSpec, block: FeedForwardSpec, rows: Real, shard: Shard) -> Real:
    """Kept tensors of one feed-forward block without its norm input."""
    own = stream_rows(rows, shard)
    wide = 2 if block.gated else 1
    narrow = saved(shard.linear_dtype)
    first = own * model.hidden * narrow
    if not block.experts:
        return first + rows * block.inter / shard.tp * (2.0 * wide + narrow)
    pairs, width = expert_rows(block, rows, shard), block.latent or model.hidden
    thin = saved(shard.expert_dtype)
    routed = pairs * (width * thin + block.inter / shard.etp * (2.0 * wide + thin))
    router = own * block.experts * 2 * FP32_BYTES
    shared = rows * block.shared_inter / shard.tp * (2.0 * wide + narrow)
    return first + routed + router + shared
