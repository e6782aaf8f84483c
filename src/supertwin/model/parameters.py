"""Counting weights, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from supertwin.model.spec import AttentionSpec, FeedForwardSpec, LayerSpec, ModelSpec


@dataclass(frozen=True, slots=True)
class AttentionParameters:
    """Weights of one attention block. sharded: divided by tensor parallelism; kv: divided by it down to one head;
    replicated: held whole by every tensor-parallel rank (low-rank input maps, indexer, norms)."""

    sharded: float
    kv: float
    replicated: float

    @property
    def total(self) -> float:
        """All weights."""
        return self.sharded + self.kv + self.replicated


@dataclass(frozen=True, slots=True)
class FeedForwardParameters:
    """Weights of one feed-forward block. dense: the dense matrices; experts: all routed experts; shared: shared
    experts; replicated: router, latent maps."""

    dense: float
    experts: float
    shared: float
    replicated: float

    @property
    def total(self) -> float:
        """All weights."""
        return self.dense + self.experts + self.shared + self.replicated


@dataclass(frozen=True, slots=True)
class LayerParameters:
    """Weights of one layer; active counts topk of the experts."""

    attention: AttentionParameters
    feed_forward: FeedForwardParameters
    norms: float
    active: float

    @property
    def total(self) -> float:
        """All weights of the layer."""
        return self.attention.total + self.feed_forward.total + self.norms


@dataclass(frozen=True, slots=True)
class Parameters:
    """Weights of a model.

    total: main model, without MTP modules (the usual published size); active: used per token, LM head included, input
    embedding and position table not; embedding: input table; head: LM head (0 when tied); per_layer: in the order of
    `ModelSpec.layers`; mtp, mtp_active: all MTP modules; stored: total + mtp.
    """

    total: float
    active: float
    embedding: float
    positions: float
    head: float
    per_layer: tuple[LayerParameters, ...]
    mtp: float
    mtp_active: float

    @property
    def stored(self) -> float:
        """Main model and MTP modules."""
        return self.total + self.mtp


@lru_cache(maxsize=512)
def parameter_count(model: ModelSpec) -> Parameters:
    """Count all weights of a model."""
    per_layer = tuple(layer_parameters(model, layer) for layer in model.layers)
    embedding = float(model.vocab * model.hidden)
    positions = float(model.max_positions * model.hidden) if model.positions == "learned" else 0.0
    head = 0.0 if model.tied_embeddings else embedding
    body = sum(p.total * layer.count for p, layer in zip(per_layer, model.layers, strict=True))
    active = sum(p.active * layer.count for p, layer in zip(per_layer, model.layers, strict=True))
    norm = norm_parameters(model)
    mtp = mtp_active = 0.0
    if model.mtp is not None:
        module = layer_parameters(model, model.mtp)
        joint = 2.0 * model.hidden**2 + 3 * norm
        mtp, mtp_active = model.mtp_count * (module.total + joint), model.mtp_count * (module.active + joint)
    total = embedding + positions + head + body + norm
    return Parameters(total, active + embedding + norm, embedding, positions, head, per_layer, mtp, mtp_active)


def norm_parameters(model: ModelSpec) -> float:
    """Weights of one norm over hidden: scale, and shift for layer norm."""
    return float(model.hidden * (2 if model.norm == "layer" else 1))


def layer_parameters(model: ModelSpec, layer: LayerSpec) -> LayerParameters:
    """Weights of one layer."""
    attention = attention_parameters(layer.attention, model.hidden)
    blocks = [b for b in (layer.feed_forward, layer.shortcut) if b is not None]
    parts = [feed_forward_parameters(b, model.hidden) for b in blocks]
    feed_forward = FeedForwardParameters(
        sum(p.dense for p in parts),
        sum(p.experts for p in parts),
        sum(p.shared for p in parts),
        sum(p.replicated for p in parts),
    )
    streams = model.hyper_connections
    hyper = 2.0 * (2 + streams) * streams * streams * model.hidden if streams > 1 else 0.0
    norms = layer.norms * norm_parameters(model) + hyper
    used = sum(p.experts * active_share(b) for p, b in zip(parts, blocks, strict=True))
    active = attention.total + feed_forward.total - feed_forward.experts + used + norms
    return LayerParameters(attention, feed_forward, norms, active)


def active_share(block: FeedForwardSpec) -> float:
    """Share of the routed experts that one token uses (zero experts take part in the choice and hold no weights)."""
    return block.topk / (block.experts + block.zero_experts) if block.experts else 0.0


def attention_parameters(block: AttentionSpec | None, hidden: int) -> AttentionParameters:
    """Weights of one attention block (0 for None)."""
    if block is None:
        return AttentionParameters(0.0, 0.0, 0.0)
    if block.kind == "mla":
        return _latent(block, hidden)
    if block.kind in ("linear", "mamba"):
        return _recurrent(block, hidden)
    return _grouped(block, hidden)


def _query(block: AttentionSpec, hidden: int) -> tuple[float, float]:
    """(sharded, replicated) weights of the query path."""
    width = block.heads * block.qk_head_dim
    if block.q_lora_rank:
        return float(block.q_lora_rank * width), float(hidden * block.q_lora_rank + block.q_lora_rank)
    return float(hidden * width), 0.0


def _indexer(block: AttentionSpec, hidden: int) -> float:
    """Indexer: query map, head weights, and the key map (a compressor where the cache is compressed)."""
    if not block.index_heads:
        return 0.0
    keys = hidden * block.index_head_dim * (4 if block.compress_ratio > 1 else 1)
    return float(block.q_lora_rank * block.index_heads * block.index_head_dim + hidden * block.index_heads + keys)


def compressor_width(block: AttentionSpec) -> int:
    """Columns of the compressor (values and weights; twice as many where windows overlap, that is with an indexer)."""
    if block.compress_ratio <= 1:
        return 0
    return block.qk_head_dim * (4 if block.index_heads else 2)


def _grouped(block: AttentionSpec, hidden: int) -> AttentionParameters:
    query, replicated = _query(block, hidden)
    out_width = block.heads * block.v_head_dim
    if block.output_lora_rank:
        out = out_width * block.output_lora_rank + block.output_groups * block.output_lora_rank * hidden
    else:
        out = out_width * hidden
    kv_width = block.kv_heads * block.qk_head_dim * block.kv_projections
    gate = hidden * out_width if block.gate else 0
    bias_q = block.heads * block.qk_head_dim if block.q_bias else 0
    replicated += (hidden if block.out_bias else 0) + (2 * block.qk_head_dim if block.qk_norm else 0)
    replicated += _indexer(block, hidden) + hidden * compressor_width(block)
    sinks = block.heads if block.sinks else 0
    kv = hidden * kv_width + (kv_width if block.q_bias else 0)
    return AttentionParameters(query + out + gate + bias_q + sinks, float(kv), replicated)


def _latent(block: AttentionSpec, hidden: int) -> AttentionParameters:
    query, replicated = _query(block, hidden)
    up = block.kv_lora_rank * block.heads * (block.qk_nope_head_dim + block.v_head_dim)
    out = block.heads * block.v_head_dim * hidden
    gate = hidden * block.heads * block.v_head_dim if block.gate else 0
    replicated += hidden * (block.kv_lora_rank + block.qk_rope_head_dim) + block.kv_lora_rank + _indexer(block, hidden)
    return AttentionParameters(query + up + out + gate, 0.0, replicated)


def _recurrent(block: AttentionSpec, hidden: int) -> AttentionParameters:
    key = block.linear_key_heads * block.linear_key_head_dim
    value = block.linear_value_heads * block.linear_value_head_dim
    conv = (2 * key + value) * block.conv_kernel
    project = hidden * (2 * key + value) + value * hidden
    gate = value * (block.gate_rank + hidden * (block.gate_rank == 0)) if block.gate else 0
    scalars = 1 if block.kind == "mamba" else 2
    decay = block.decay_rank * key if block.decay_rank else hidden * block.linear_value_heads * (scalars - 1)
    heads = hidden * block.linear_value_heads
    low_rank = hidden * (block.gate_rank + block.decay_rank)
    return AttentionParameters(float(conv + project + gate + decay + heads), 0.0, float(low_rank + value))


def feed_forward_parameters(block: FeedForwardSpec, hidden: int) -> FeedForwardParameters:
    """Weights of one feed-forward block."""
    matrices = 3 if block.gated else 2
    if not block.experts:
        bias = block.inter * (matrices - 1) + hidden if block.bias else 0
        return FeedForwardParameters(float(matrices * hidden * block.inter + bias), 0.0, 0.0, 0.0)
    width = block.latent or hidden
    per_expert = matrices * width * block.inter + (block.inter * (matrices - 1) + width if block.bias else 0)
    shared = matrices * hidden * block.shared_inter + (hidden if block.shared_gate else 0)
    router = (block.experts + block.zero_experts) * (hidden + (1 if block.bias else 0))
    latent = 2 * hidden * block.latent
    return FeedForwardParameters(0.0, float(block.experts * per_expert), float(shared), float(router + latent))
