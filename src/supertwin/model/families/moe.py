"""Mixtures of experts over grouped-query attention.

Mixtral, Grok, Phi, Qwen, GLM-4.x, MiniMax, Hunyuan, Pangu Pro, gpt-oss, Llama 4. Sources: arXiv 2401.04088 (Mixtral),
2505.09388 (Qwen3), 2508.06471 (GLM-4.5), 2505.21411 (Pangu Pro MoE, grouped experts), 2508.10925 (gpt-oss), and the
Hugging Face configuration classes.
"""

from __future__ import annotations

from dataclasses import replace

from supertwin.model.build import Extras, assemble, dense, grouped_attention, layer_count, mixture, moe_layers, tied
from supertwin.model.config import Config
from supertwin.model.families.gpt import build_gpt
from supertwin.model.spec import FeedForwardSpec, LayerSpec, ModelSpec

QKV_BIAS = {"qwen2_moe", "glm4_moe"}
QK_NORM = {"qwen3_moe", "hy_v3", "minimax_m2", "minimax_m3", "qwen3_vl_moe_text"}
SHARED_GATE = {"qwen2_moe"}


def build_moe(config: Config, family: str) -> ModelSpec:
    """Gated experts, with dense layers where the configuration marks them."""
    attention = grouped_attention(config, bias=family in QKV_BIAS, qk_norm=family in QK_NORM)
    moe = replace(mixture(config), shared_gate=family in SHARED_GATE)
    plain = dense(config) if config.has("intermediate_size") else None
    extras = Extras(tied_embeddings=tied(config, False))
    return assemble(config, family, moe_layers(config, attention, moe, plain), with_mtp(config, extras, attention, moe))


def with_mtp(config: Config, extras: Extras, attention: object, moe: FeedForwardSpec) -> Extras:
    """Add the multi-token-prediction modules that the configuration counts."""
    count = config.integer("num_nextn_predict_layers", "mtp_num_hidden_layers", default=0, least=0, most=16)
    if count:
        extras["mtp"] = LayerSpec(attention, moe, 1)  # type: ignore[arg-type]
        extras["mtp_count"] = count
    return extras


def build_generic_moe(config: Config, family: str) -> ModelSpec:
    """The neutral form of the shipped tables: gated, or GPT-like when the architecture says so."""
    if "GPTForCausalLM" in config.texts("architectures"):
        return build_gpt(config, family)
    return build_moe(config, family)


def build_minimax(config: Config, family: str) -> ModelSpec:
    """MiniMax M2 (all MoE) and M3 (first layers dense, keys picked in blocks)."""
    attention = grouped_attention(config, qk_norm=True)
    sparse = config.section("sparse_attention_config")
    if sparse.flag("use_sparse_attention", default=False):
        block = sparse.integer("sparse_block_size", most=1 << 16)
        topk = sparse.integer("sparse_topk_blocks", most=1 << 16)
        attention = replace(attention, index_topk=block * topk, index_block=block)
    moe = mixture(config)
    plain = (
        FeedForwardSpec(config.integer("dense_intermediate_size")) if config.has("dense_intermediate_size") else None
    )
    extras = Extras(tied_embeddings=tied(config, False))
    if config.flag("use_mtp", default=False):
        extras["mtp"], extras["mtp_count"] = LayerSpec(attention, moe, 1), config.integer("num_mtp_modules", most=16)
    return assemble(config, family, moe_layers(config, attention, moe, plain), extras)


def build_gpt_oss(config: Config, family: str) -> ModelSpec:
    """gpt-oss: biases everywhere, attention sinks, window on every second layer."""
    full = replace(grouped_attention(config, bias=True), sinks=True)
    full = replace(full, out_bias=full.q_bias)
    local = replace(full, window=config.integer("sliding_window", most=1 << 40))
    moe = mixture(config, bias=True)
    layers = layer_count(config)
    types = config.texts("layer_types") or ["sliding_attention", "full_attention"] * layers
    if len(types) < layers or not set(types) <= {"full_attention", "sliding_attention"}:
        raise config.error(f"layer_types must name full_attention or sliding_attention for each of {layers} layers")
    kinds = [LayerSpec(full if t == "full_attention" else local, moe, 1) for t in types[:layers]]
    return assemble(config, family, kinds, Extras(tied_embeddings=tied(config, False)))


def build_llama4(config: Config, family: str) -> ModelSpec:
    """Llama 4: three chunked-local layers to one global without rotary positions; one routed and one shared expert."""
    full = grouped_attention(config, qk_norm=config.flag("use_qk_norm", default=False))
    local = replace(full, chunk=config.integer("attention_chunk_size", most=1 << 40))
    inter = config.integer("intermediate_size")
    experts = config.integer("num_local_experts", most=1 << 16)
    topk = config.integer("num_experts_per_tok", most=experts)
    moe = FeedForwardSpec(inter, experts=experts, topk=topk, shared_inter=inter)
    plain = FeedForwardSpec(config.integer("intermediate_size_mlp"))
    step = config.integer("interleave_moe_layer_step")
    layers = [
        LayerSpec(full if (i + 1) % 4 == 0 else local, moe if (i + 1) % step == 0 else plain, 1)
        for i in range(layer_count(config))
    ]
    return assemble(config, family, layers, Extras(tied_embeddings=tied(config, False)))
