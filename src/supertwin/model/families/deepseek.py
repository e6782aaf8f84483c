"""Multi-head latent attention: DeepSeek V2/V3/V3.2/V4, Kimi K2, GLM-5, Pangu Ultra MoE, LongCat.

Sources: arXiv 2405.04434 (MLA), 2412.19437 (V3, MTP), DeepSeek-V3.2-Exp report (sparse attention indexer),
DeepSeek-V4 report (compressed sparse attention, manifold-constrained hyper-connections), 2509.01322 (LongCat),
2505.04519 (Pangu Ultra MoE: sandwich norm).
"""

from __future__ import annotations

from dataclasses import replace

from supertwin.model.build import Extras, assemble, dense, layer_count, mixture, moe_layers, tied
from supertwin.model.config import Config
from supertwin.model.spec import AttentionSpec, FeedForwardSpec, LayerSpec, ModelSpec

SANDWICH = {"pangu_ultra_moe"}


def latent_attention(config: Config) -> AttentionSpec:
    """MLA. q_lora_rank null = one full query matrix."""
    heads = config.integer("num_attention_heads", most=1 << 14)
    nope = config.integer("qk_nope_head_dim", most=1 << 14)
    rope = config.integer("qk_rope_head_dim", least=0, most=1 << 14)
    return AttentionSpec(
        "mla",
        heads,
        heads,
        nope + rope,
        config.integer("v_head_dim", most=1 << 14),
        q_lora_rank=config.integer("q_lora_rank", default=0, least=0),
        kv_lora_rank=config.integer("kv_lora_rank"),
        qk_nope_head_dim=nope,
        qk_rope_head_dim=rope,
    )


def indexed(config: Config, attention: AttentionSpec) -> AttentionSpec:
    """Add the lightning indexer of DeepSeek sparse attention."""
    if attention.q_lora_rank == 0:
        raise config.error("index_topk needs q_lora_rank: the indexer reads the low-rank query")
    return replace(
        attention,
        index_topk=config.integer("index_topk", most=1 << 40),
        index_heads=config.integer("index_n_heads", most=1 << 14),
        index_head_dim=config.integer("index_head_dim", most=1 << 14),
    )


def grouped_router(config: Config, moe: FeedForwardSpec) -> FeedForwardSpec:
    """Node-limited routing: the picks of a token lie in topk_group of n_group groups (arXiv 2412.19437, 2.1.2)."""
    groups = config.integer("n_group", default=1, most=1 << 14)
    kept = config.integer("topk_group", default=groups, most=1 << 14)
    return replace(moe, router_groups=groups, router_kept=min(kept, groups))


def build_deepseek(config: Config, family: str) -> ModelSpec:
    """MLA, first layers dense, shared and routed experts, optional indexer and MTP modules."""
    attention = latent_attention(config)
    if config.has("index_topk"):
        attention = indexed(config, attention)
    norms = 4 if family in SANDWICH else 2
    moe = grouped_router(config, mixture(config))
    plain = dense(config) if config.has("intermediate_size") else None
    layers = [replace(layer, norms=norms) for layer in moe_layers(config, attention, moe, plain)]
    layers = share_indexers(config, layers)
    extras = Extras(tied_embeddings=tied(config, False))
    count = config.integer("num_nextn_predict_layers", default=0, least=0, most=16)
    if count:
        extras["mtp"], extras["mtp_count"] = LayerSpec(attention, moe, 1, norms=norms), count
    return assemble(config, family, layers, extras)


def share_indexers(config: Config, layers: list[LayerSpec]) -> list[LayerSpec]:
    """GLM-5.2: layers marked shared reuse the key selection of the layer below and have no indexer of their own."""
    types = config.texts("indexer_types")
    if not types:
        return layers
    if len(types) < len(layers) or not set(types) <= {"full", "shared"}:
        raise config.error(f"indexer_types must name full or shared for each of {len(layers)} layers")
    return [
        replace(layer, attention=replace(layer.attention, index_heads=0))
        if kind == "shared" and layer.attention is not None
        else layer
        for kind, layer in zip(types, layers, strict=False)
    ]


def build_longcat(config: Config, family: str) -> ModelSpec:
    """LongCat: a layer is two attention and two dense blocks, with a MoE beside the first; it becomes two entries."""
    attention = latent_attention(config)
    plain = FeedForwardSpec(config.integer("ffn_hidden_size", "intermediate_size"))
    moe = replace(mixture(config), zero_experts=config.integer("zero_expert_num", default=0, least=0, most=1 << 16))
    pair = [LayerSpec(attention, plain, 1, shortcut=moe), LayerSpec(attention, plain, 1)]
    layers = config.integer("num_layers", most=4096)
    return assemble(config, family, pair * layers, Extras(tied_embeddings=tied(config, False)))


def build_deepseek_v4(config: Config, family: str) -> ModelSpec:
    """V4: one shared key-value vector per token, a short window, and compressed entries (ratio 4 picked by an indexer,
    ratio 128 all read); grouped low-rank output; every layer MoE; hyper-connections."""
    heads, head_dim = config.integer("num_attention_heads", most=1 << 14), config.integer("head_dim", most=1 << 14)
    base = AttentionSpec(
        "gqa",
        heads,
        config.integer("num_key_value_heads", default=1, most=1),
        head_dim,
        head_dim,
        window=config.integer("sliding_window", most=1 << 40),
        sinks=True,
        q_lora_rank=config.integer("q_lora_rank"),
        qk_rope_head_dim=config.integer("qk_rope_head_dim", most=head_dim),
        output_lora_rank=config.integer("o_lora_rank"),
        output_groups=config.integer("o_groups", most=heads),
        kv_projections=1,
        kv_vectors=1,
    )
    config.divides(base.output_groups, heads, "num_attention_heads / o_groups")
    ratios = config.whole_numbers("compress_ratios", most=1 << 16)
    count = layer_count(config)
    if len(ratios) < count:
        raise config.error(f"compress_ratios has {len(ratios)} entries for {count} layers")
    blocks = {r: compressed(config, base, r) for r in set(ratios)}
    moe = mixture(config)
    layers = [LayerSpec(blocks[r], moe, 1) for r in ratios[:count]]
    extras = Extras(
        tied_embeddings=tied(config, False), hyper_connections=config.integer("hc_mult", default=1, most=64)
    )
    modules = config.integer("num_nextn_predict_layers", default=0, least=0, most=16)
    if modules:
        extras["mtp"], extras["mtp_count"] = LayerSpec(base, moe, 1), modules
    return assemble(config, family, layers, extras)


def compressed(config: Config, base: AttentionSpec, ratio: int) -> AttentionSpec:
    """Attention of one layer of V4: ratio 0 window only, up to 16 indexed, beyond that all compressed entries."""
    if ratio <= 1:
        return base
    block = replace(base, compress_ratio=ratio)
    return indexed(config, block) if ratio <= 16 else block
