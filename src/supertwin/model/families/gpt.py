"""Ungated decoders with biases: GPT-2/3, BLOOM, MPT, OPT, GPT-NeoX, GPT-J, Falcon, StarCoder, Nemotron.

Sources: arXiv 2005.14165 (GPT-3), 2211.05100 (BLOOM), 2204.06745 (NeoX), 2311.16867 (Falcon), Hugging Face classes.
"""

from __future__ import annotations

from dataclasses import replace

from supertwin.model.build import (
    EXPERT_FIELDS,
    Extras,
    assemble,
    grouped_attention,
    hidden_size,
    layer_count,
    mixture,
    tied,
)
from supertwin.model.config import Config
from supertwin.model.spec import AttentionSpec, FeedForwardSpec, LayerSpec, ModelSpec

WIDTH_FIELDS = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")


def feed_forward(config: Config, bias: bool) -> FeedForwardSpec:
    """Two matrices; four times the hidden size unless stated (the classes' own rule)."""
    if config.has(*EXPERT_FIELDS):
        return mixture(config, gated=False, bias=bias)
    inter = config.integer(
        *WIDTH_FIELDS, default=int(config.number("expansion_ratio", default=4.0) * hidden_size(config))
    )
    return FeedForwardSpec(inter, gated=False, bias=bias)


def attention(config: Config, bias: bool) -> AttentionSpec:
    """Attention with biases on both projections."""
    block = grouped_attention(config, bias=bias)
    return replace(block, out_bias=block.q_bias)


def build(config: Config, family: str, extras: Extras, *, bias: bool = True, parallel: bool = False) -> ModelSpec:
    """All layers alike."""
    norms = 1 if parallel else 2
    layer = LayerSpec(attention(config, bias), feed_forward(config, bias), 1, norms=norms, parallel=parallel)
    return assemble(config, family, [layer] * layer_count(config), extras)


def build_gpt(config: Config, family: str) -> ModelSpec:
    """GPT-2/3 shape; position_embedding says learned, alibi, rope or none (absent: learned, as in GPT-2)."""
    positions = config.text("position_embedding", default="rope" if config.has("rope_theta") else "learned")
    if positions not in ("learned", "alibi", "rope", "none"):
        raise config.error(f"position_embedding is {positions!r}, expected learned, alibi, rope or none")
    if family == "moe" and not config.has("position_embedding"):
        positions = "rope"
    return build(config, family, Extras(tied_embeddings=tied(config, True), positions=positions, norm="layer"))


def build_bloom(config: Config, family: str) -> ModelSpec:
    """BLOOM: ALiBi, tied embeddings."""
    return build(config, family, Extras(tied_embeddings=tied(config, True), positions="alibi", norm="layer"))


def build_mpt(config: Config, family: str) -> ModelSpec:
    """MPT: no biases; ALiBi when attn_config.alibi, learned positions otherwise."""
    inner = config.section("attn_config")
    alibi = inner.flag("alibi", default=False)
    values = dict(config.values)
    kind = inner.text("attn_type", default="multihead_attention")
    if kind == "multiquery_attention":
        values["num_key_value_heads"] = 1
    elif kind == "grouped_query_attention":
        values["num_key_value_heads"] = inner.integer("kv_n_heads")
    elif kind != "multihead_attention":
        raise config.error(
            f"attn_config.attn_type is {kind!r}, expected multihead_, multiquery_ or grouped_query_attention"
        )
    extras = Extras(tied_embeddings=True, positions="alibi" if alibi else "learned", norm="layer")
    return build(Config(values, config.name), family, extras, bias=not config.flag("no_bias", default=True))


def build_neox(config: Config, family: str) -> ModelSpec:
    """GPT-NeoX: rotary, two norms even in the parallel form."""
    spec_layer = LayerSpec(
        attention(config, True),
        feed_forward(config, True),
        1,
        parallel=config.flag("use_parallel_residual", default=True),
    )
    extras = Extras(tied_embeddings=tied(config, False), norm="layer")
    return assemble(config, family, [spec_layer] * layer_count(config), extras)


def build_gptj(config: Config, family: str) -> ModelSpec:
    """GPT-J and Phi-1/2: one norm, attention and feed-forward in parallel, rotary."""
    return build(config, family, Extras(tied_embeddings=tied(config, False), norm="layer"), parallel=True)


def build_falcon(config: Config, family: str) -> ModelSpec:
    """Falcon 7B (multi-query) and 40B/180B (new_decoder_architecture: grouped); no biases unless stated."""
    values = dict(config.values)
    if config.flag("new_decoder_architecture", default=False):
        values["num_key_value_heads"] = config.integer("num_kv_heads", "n_head_kv")
        values.pop("multi_query", None)
    else:
        values["multi_query"] = config.flag("multi_query", default=True)
        values.pop("num_kv_heads", None)
    positions = "alibi" if config.flag("alibi", default=False) else "rope"
    extras = Extras(tied_embeddings=tied(config, True), positions=positions, norm="layer")
    parallel = config.flag("parallel_attn", default=True)
    return build(
        Config(values, config.name), family, extras, bias=config.flag("bias", default=False), parallel=parallel
    )


def build_nemotron(config: Config, family: str) -> ModelSpec:
    """Nemotron 3/4 dense: squared ReLU, rotary, no biases."""
    return build(config, family, Extras(tied_embeddings=tied(config, False), norm="layer"), bias=False)


def build_starcoder2(config: Config, family: str) -> ModelSpec:
    """StarCoder2: grouped queries, rotary, biases, tied embeddings."""
    extras = Extras(tied_embeddings=tied(config, True), norm="layer")
    return build(config, family, extras, bias=config.flag("use_bias", default=True))
