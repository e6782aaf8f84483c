"""Gemma 1-4: tied embeddings, GeGLU, sandwich norm from 2 on, sliding windows between global layers.

Sources: arXiv 2403.08295, 2408.00118 (local and global alternate), 2503.19786 (five local to one global).
"""

from __future__ import annotations

from dataclasses import replace

from supertwin.model.build import EXPERT_FIELDS, Extras, assemble, dense, grouped_attention, layer_count, mixture, tied
from supertwin.model.config import Config
from supertwin.model.spec import AttentionSpec, LayerSpec, ModelSpec

PATTERN = {"gemma2": 2, "gemma2_text": 2, "gemma3": 6, "gemma3_text": 6, "gemma4": 6, "gemma4_text": 6}


def build_gemma(config: Config, family: str) -> ModelSpec:
    """Every `sliding_window_pattern`-th layer is global, the others see a window."""
    generation = PATTERN.get(family, 0)
    config = Config({**class_defaults(family), **given_fields(config)}, config.name)
    local = grouped_attention(config, qk_norm=generation == 6)
    everywhere = global_attention(config, local)
    if generation:
        local = replace(local, window=config.integer("sliding_window", most=1 << 40))
    # the dense branch beside the experts is stated as a shared expert
    block = mixture(config) if config.has(*EXPERT_FIELDS) else dense(config)
    norms = 4 if generation else 2
    layers = [LayerSpec(everywhere if g else local, block, 1, norms=norms) for g in global_marks(config, generation)]
    return assemble(config, family, layers, Extras(tied_embeddings=tied(config, True)))


def given_fields(config: Config) -> dict[str, object]:
    """Fields that are not null."""
    return {k: v for k, v in config.values.items() if v is not None}


def class_defaults(family: str) -> dict[str, object]:
    """Published Gemma files leave out what equals the configuration class: head size 256, and Gemma 3's vocabulary."""
    defaults: dict[str, object] = {"head_dim": 256}
    if family in ("gemma3", "gemma3_text"):
        defaults["vocab_size"] = 262_208
    return defaults


def global_attention(config: Config, local: AttentionSpec) -> AttentionSpec:
    """Gemma 4's global layers have their own head size and may share keys and values."""
    head_dim = config.integer("global_head_dim", default=local.qk_head_dim, most=1 << 14)
    kv_heads = config.integer("num_global_key_value_heads", default=local.kv_heads, most=1 << 14)
    config.divides(kv_heads, local.heads, "num_attention_heads / num_global_key_value_heads")
    matrices = 1 if config.flag("attention_k_eq_v_global", "attention_k_eq_v", default=False) else 2
    return replace(local, kv_heads=kv_heads, qk_head_dim=head_dim, v_head_dim=head_dim, kv_projections=matrices)


def global_marks(config: Config, generation: int) -> list[bool]:
    """For each layer whether it sees the whole context."""
    layers = layer_count(config)
    types = config.texts("layer_types")
    if types:
        if len(types) < layers or not set(types) <= {"full_attention", "sliding_attention"}:
            raise config.error(f"layer_types must name full_attention or sliding_attention for each of {layers} layers")
        return [t == "full_attention" for t in types[:layers]]
    if not generation:
        return [True] * layers
    step = config.integer("sliding_window_pattern", default=generation)
    return [(i + 1) % step == 0 for i in range(layers)]
