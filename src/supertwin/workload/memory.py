"""Bytes per device: weights and cache. Activations: `activations.py`."""

from __future__ import annotations

from dataclasses import dataclass

from supertwin.model.parameters import layer_parameters, norm_parameters
from supertwin.model.spec import AttentionSpec, LayerSpec, ModelSpec
from supertwin.workload.block import bytes_of
from supertwin.workload.core import stored_bytes_per_token
from supertwin.workload.feed_forward import shared_is_whole
from supertwin.workload.operators import Real
from supertwin.workload.recurrent import state_bytes
from supertwin.workload.shard import Shard, minimum


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
