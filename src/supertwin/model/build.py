"""Pieces that the families share: attention and feed-forward from the usual field names, and the assembly of a spec."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from supertwin.model.config import Config
from supertwin.model.spec import AttentionSpec, FeedForwardSpec, LayerSpec, ModelSpec

LAYER_FIELDS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
HIDDEN_FIELDS = ("hidden_size", "n_embd", "n_embed", "d_model")
HEAD_FIELDS = ("num_attention_heads", "n_head", "n_heads")
HEAD_DIM_FIELDS = ("head_dim", "kv_channels", "attention_head_dim")
VOCAB_FIELDS = ("vocab_size", "padded_vocab_size")
POSITION_FIELDS = (
    "max_position_embeddings",
    "n_positions",
    "n_ctx",
    "max_seq_len",
    "seq_length",
    "max_sequence_length",
)
EXPERT_FIELDS = ("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts")
TOPK_FIELDS = ("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk", "moe_k")


class Extras(TypedDict, total=False):
    """Fields of ModelSpec that a family may set beside the layers."""

    tied_embeddings: bool
    positions: str
    norm: str
    mtp: LayerSpec | None
    mtp_count: int
    mtp_repeats: int
    hyper_connections: int


def layer_count(config: Config) -> int:
    """Number of transformer layers."""
    return config.integer(*LAYER_FIELDS, most=4096)


def hidden_size(config: Config) -> int:
    """Width of the residual stream."""
    return config.integer(*HIDDEN_FIELDS, most=1 << 20)


def tied(config: Config, default: bool) -> bool:
    """Whether the LM head is the embedding; `default` is that of the family's configuration class."""
    return config.flag("tie_word_embeddings", default=default)


def grouped_attention(config: Config, *, bias: bool = False, qk_norm: bool = False, window: int = 0) -> AttentionSpec:
    """Multi-head, grouped-query or multi-query attention. An absent kv-head count means one per head."""
    hidden, heads = hidden_size(config), config.integer(*HEAD_FIELDS, most=1 << 14)
    default_kv = 1 if config.flag("multi_query", default=False) else heads
    kv_heads = config.integer("num_key_value_heads", "num_kv_heads", default=default_kv, most=1 << 14)
    config.divides(kv_heads, heads, "num_attention_heads / num_key_value_heads")
    if config.has(*HEAD_DIM_FIELDS):
        head_dim = config.integer(*HEAD_DIM_FIELDS, most=1 << 14)
    else:
        head_dim = config.divides(heads, hidden, "hidden_size / num_attention_heads")
    biased = config.flag("attention_bias", default=bias)
    return AttentionSpec("gqa", heads, kv_heads, head_dim, head_dim, window=window, q_bias=biased, qk_norm=qk_norm)


def dense(config: Config, *, gated: bool = True, bias: bool = False) -> FeedForwardSpec:
    """A dense feed-forward block of intermediate_size."""
    return FeedForwardSpec(config.integer("intermediate_size"), gated=gated, bias=config.flag("mlp_bias", default=bias))


def mixture(config: Config, *, gated: bool = True, bias: bool = False) -> FeedForwardSpec:
    """A mixture of experts from the usual names; the expert width falls back to intermediate_size (Mixtral)."""
    experts = config.integer(*EXPERT_FIELDS, most=1 << 16)
    topk = config.integer(*TOPK_FIELDS, most=1 << 16)
    if topk > experts:
        raise config.error(f"{topk} experts per token of only {experts} experts")
    groups = config.integer("num_expert_groups", default=1)
    if groups > 1:
        config.divides(groups, experts, "num_experts / num_expert_groups")
        config.divides(groups, topk, "num_experts_per_tok / num_expert_groups")
    inter = config.integer("moe_intermediate_size", "expert_ffn_hidden_size", "intermediate_size")
    return FeedForwardSpec(
        inter,
        gated=gated,
        bias=bias,
        experts=experts,
        topk=topk,
        shared_inter=shared_width(config, inter),
        groups=groups,
    )


def shared_width(config: Config, inter: int) -> int:
    """Total width of the shared experts: stated as such, or their number times the expert width."""
    fields = ("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "shared_intermediate_size")
    if config.has(*fields):
        return config.integer(*fields, least=0)
    return inter * config.integer("n_shared_experts", "num_shared_experts", default=0, least=0, most=1024)


def moe_layers(
    config: Config, attention: AttentionSpec, moe: FeedForwardSpec, plain: FeedForwardSpec | None
) -> list[LayerSpec]:
    """Layers with MoE except those that the configuration marks dense (first_k_dense_replace, decoder_sparse_step,
    mlp_only_layers, mlp_layer_types, moe_layer_freq)."""
    return [
        LayerSpec(attention, plain if plain is not None and is_dense else moe, 1)
        for is_dense in dense_marks(config, layer_count(config))
    ]


def dense_marks(config: Config, layers: int) -> list[bool]:
    """For each layer whether it is dense rather than MoE."""
    types = config.texts("mlp_layer_types")
    if types:
        if len(types) < layers or not set(types) <= {"dense", "sparse"}:
            raise config.error(f"mlp_layer_types must name dense or sparse for each of {layers} layers")
        return [t == "dense" for t in types[:layers]]
    if isinstance(config.values.get("moe_layer_freq"), list):
        marks = config.whole_numbers("moe_layer_freq", most=1)
        if len(marks) < layers:
            raise config.error(f"moe_layer_freq has {len(marks)} entries for {layers} layers")
        return [m == 0 for m in marks[:layers]]
    first = config.integer("first_k_dense_replace", default=0, least=0)
    step = config.integer("decoder_sparse_step", default=1)
    every = config.integer("moe_layer_freq", default=1)
    only = set(config.whole_numbers("mlp_only_layers"))
    return [i < first or i in only or (i + 1) % step != 0 or (i % every != 0) for i in range(layers)]


def assemble(config: Config, architecture: str, layers: Sequence[LayerSpec], extras: Extras) -> ModelSpec:
    """Group equal layers into kinds and build the spec."""
    kinds = list(dict.fromkeys(layers))
    index = {kind: i for i, kind in enumerate(kinds)}
    order = tuple(index[layer] for layer in layers)
    counted = tuple(
        LayerSpec(k.attention, k.feed_forward, order.count(i), k.norms, k.shortcut, k.parallel)
        for i, k in enumerate(kinds)
    )
    return ModelSpec(
        name=config.name,
        architecture=architecture,
        hidden=hidden_size(config),
        vocab=config.integer(*VOCAB_FIELDS, most=1 << 26),
        layers=counted,
        order=order,
        max_positions=config.integer(*POSITION_FIELDS, default=0, least=0, most=1 << 40),
        **extras,
    )
