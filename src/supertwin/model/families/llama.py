"""Dense decoders with RMS norm, rotary positions and a gated feed-forward: Llama and its many relatives.

Sources: arXiv 2302.13971 (Llama), 2307.09288 (GQA), Hugging Face configuration classes of each model type.
"""

from __future__ import annotations

from supertwin.model.build import Extras, assemble, dense, grouped_attention, layer_count, tied
from supertwin.model.config import Config
from supertwin.model.spec import LayerSpec, ModelSpec

# biased query, key and value matrices without a field that says so
QKV_BIAS = {"qwen2", "glm", "glm4", "qwen2_vl_text", "qwen2_5_vl_text"}
QK_NORM = {"qwen3", "qwen3_vl_text", "olmo2"}
TIED = {"minicpm"}  # default of the configuration class


def build_llama(config: Config, family: str) -> ModelSpec:
    """Every layer alike: grouped-query attention and SwiGLU; sliding window where the family uses one throughout."""
    window = config.integer("sliding_window", default=0, least=0, most=1 << 40) if family == "mistral" else 0
    attention = grouped_attention(config, bias=family in QKV_BIAS, qk_norm=family in QK_NORM, window=window)
    layer = LayerSpec(attention, dense(config), 1)
    extras = Extras(tied_embeddings=tied(config, family in TIED))
    return assemble(config, "llama", [layer] * layer_count(config), extras)


def build_chatglm(config: Config, family: str) -> ModelSpec:
    """ChatGLM2/3 and GLM-4 in the field names of their own code."""
    values = dict(config.values)
    renames = {"ffn_hidden_size": "intermediate_size", "multi_query_group_num": "num_key_value_heads"}
    values.update({new: values[old] for old, new in renames.items() if values.get(old) is not None})
    values["attention_bias"] = config.flag("add_qkv_bias", "attention_bias", default=True)
    values.pop("multi_query", None)
    return build_llama(Config(values, config.name), family)


def build_qwen1(config: Config, family: str) -> ModelSpec:
    """Qwen (first generation): intermediate_size counts both halves of SwiGLU; QKV biased."""
    values = {**config.values, "attention_bias": True}
    values["intermediate_size"] = config.divides(2, config.integer("intermediate_size"), "intermediate_size / 2")
    return build_llama(Config(values, config.name), family)


def build_phi3(config: Config, family: str) -> ModelSpec:
    """Phi-3 and Phi-4: Llama with fused matrices; sliding window throughout where given."""
    window = config.integer("sliding_window", default=0, least=0, most=1 << 40)
    layer = LayerSpec(grouped_attention(config, window=window), dense(config), 1)
    return assemble(config, family, [layer] * layer_count(config), Extras(tied_embeddings=tied(config, False)))


def build_pangu_ultra(config: Config, family: str) -> ModelSpec:
    """Pangu Ultra 135B: Llama shape with sandwich norm (arXiv 2504.07866)."""
    layer = LayerSpec(grouped_attention(config), dense(config), 1, norms=4)
    return assemble(config, family, [layer] * layer_count(config), Extras(tied_embeddings=tied(config, False)))


def build_palm(config: Config, family: str) -> ModelSpec:
    """PaLM: multi-query attention and SwiGLU in parallel on one norm (arXiv 2204.02311)."""
    layer = LayerSpec(grouped_attention(config), dense(config), 1, norms=1, parallel=True)
    extras = Extras(tied_embeddings=tied(config, True), norm="layer")
    return assemble(config, family, [layer] * layer_count(config), extras)
