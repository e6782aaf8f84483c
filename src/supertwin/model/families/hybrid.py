"""Models that mix attention with recurrent blocks: Qwen3-Next/3.5, Kimi Linear/K3, Nemotron-H.

Sources: arXiv 2412.06464 (gated delta net), 2510.26692 (Kimi Linear), 2405.21060 (Mamba-2), 2504.03624 (Nemotron-H).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from supertwin.model.build import (
    EXPERT_FIELDS,
    Extras,
    assemble,
    dense,
    dense_marks,
    grouped_attention,
    layer_count,
    mixture,
    tied,
)
from supertwin.model.config import Config
from supertwin.model.families.deepseek import latent_attention
from supertwin.model.spec import AttentionSpec, FeedForwardSpec, LayerSpec, ModelSpec


def delta_net(config: Config) -> AttentionSpec:
    """Gated delta net of Qwen: one decay and one write strength per value head, output gate as wide as the values."""
    key_heads = config.integer("linear_num_key_heads", most=1 << 14)
    value_heads = config.integer("linear_num_value_heads", most=1 << 14)
    config.divides(key_heads, value_heads, "linear_num_value_heads / linear_num_key_heads")
    key_dim = config.integer("linear_key_head_dim", most=1 << 14)
    value_dim = config.integer("linear_value_head_dim", most=1 << 14)
    return AttentionSpec(
        "linear",
        value_heads,
        key_heads,
        key_dim,
        value_dim,
        gate=True,
        linear_key_heads=key_heads,
        linear_value_heads=value_heads,
        linear_key_head_dim=key_dim,
        linear_value_head_dim=value_dim,
        conv_kernel=config.integer("linear_conv_kernel_dim", most=1 << 10),
    )


def build_qwen_hybrid(config: Config, family: str) -> ModelSpec:
    """Three delta-net layers to one gated attention layer; dense or MoE."""
    attention = replace(grouped_attention(config, qk_norm=True), gate=config.flag("attn_output_gate", default=True))
    linear = delta_net(config)
    if config.has(*EXPERT_FIELDS):
        moe = mixture(config)
        block = replace(moe, shared_gate=moe.shared_inter > 0)
    else:
        block = dense(config)
    count = layer_count(config)
    types = config.texts("layer_types")
    if types and (len(types) < count or not set(types) <= {"full_attention", "linear_attention"}):
        raise config.error(f"layer_types must name full_attention or linear_attention for each of {count} layers")
    step = config.integer("full_attention_interval", default=4)
    marks = [t == "full_attention" for t in types[:count]] or [(i + 1) % step == 0 for i in range(count)]
    layers = [LayerSpec(attention if full else linear, block, 1) for full in marks]
    extras = Extras(tied_embeddings=tied(config, False))
    modules = config.integer("num_nextn_predict_layers", "mtp_num_hidden_layers", default=0, least=0, most=16)
    if modules:
        extras["mtp"], extras["mtp_count"] = LayerSpec(attention, block, 1), modules
    return assemble(config, family, layers, extras)


def delta_attention(config: Config) -> AttentionSpec:
    """Kimi delta attention: decay per channel from a low-rank map, output gate of full or low rank."""
    inner = config.section("linear_attn_config")
    heads, head_dim = inner.integer("num_heads", most=1 << 14), inner.integer("head_dim", most=1 << 14)
    return AttentionSpec(
        "linear",
        heads,
        heads,
        head_dim,
        head_dim,
        gate=True,
        linear_key_heads=heads,
        linear_value_heads=heads,
        linear_key_head_dim=head_dim,
        linear_value_head_dim=head_dim,
        conv_kernel=inner.integer("short_conv_kernel_size", most=1 << 10),
        decay_rank=head_dim,
        gate_rank=0 if inner.flag("use_full_rank_gate", default=False) else head_dim,
    )


def build_kimi_linear(config: Config, family: str) -> ModelSpec:
    """Kimi Linear and K3: layers listed (from one) as MLA or KDA; latent experts in K3."""
    latent = replace(latent_attention(config), gate=config.flag("mla_use_output_gate", default=False))
    recurrent = delta_attention(config)
    moe = mixture(config)
    moe = replace(moe, latent=config.integer("routed_expert_hidden_size", default=0, least=0))
    count = layer_count(config)
    inner = config.section("linear_attn_config")
    full, delta = set(inner.whole_numbers("full_attn_layers")), set(inner.whole_numbers("kda_layers"))
    if full & delta or not set(range(1, count + 1)) <= full | delta:
        raise config.error(f"linear_attn_config must list each of layers 1..{count} once, as full_attn or kda")
    marks = dense_marks(config, count)
    layers = [
        LayerSpec(latent if i in full else recurrent, dense(config) if marks[i - 1] else moe, 1)
        for i in range(1, count + 1)
    ]
    return assemble(config, family, layers, Extras(tied_embeddings=tied(config, False), positions="none"))


def mamba(config: Config) -> AttentionSpec:
    """Mamba-2: value heads x head dim is the inner size; key heads are the groups, key head dim the state size."""
    heads = config.integer("mamba_num_heads", most=1 << 14)
    head_dim = config.integer("mamba_head_dim", most=1 << 14)
    groups = config.integer("n_groups", most=1 << 14)
    state = config.integer("ssm_state_size", most=1 << 14)
    config.divides(groups, heads, "mamba_num_heads / n_groups")
    return AttentionSpec(
        "mamba",
        heads,
        groups,
        state,
        head_dim,
        gate=True,
        linear_key_heads=groups,
        linear_value_heads=heads,
        linear_key_head_dim=state,
        linear_value_head_dim=head_dim,
        conv_kernel=config.integer("conv_kernel", most=1 << 10),
    )


def build_nemotron_h(config: Config, family: str) -> ModelSpec:
    """Nemotron-H: one block per layer by letter (M Mamba-2, * attention, - feed-forward, E experts), squared ReLU."""
    pattern = config.text("hybrid_override_pattern")
    count = config.integer("num_hidden_layers", default=len(pattern), most=4096)
    if len(pattern) != count:
        raise config.error(f"hybrid_override_pattern has {len(pattern)} letters for {count} layers")
    layers = [one_block(config, letter) for letter in pattern]
    extras = Extras(tied_embeddings=tied(config, False), positions="none")
    modules = config.integer("num_nextn_predict_layers", default=0, least=0, most=16)
    if modules:
        extras["mtp"], extras["mtp_count"] = mtp_block(config), modules
        extras["mtp_repeats"] = config.integer("mtp_repeats", default=1, most=16)
    return assemble(config, family, layers, extras)


def mtp_block(config: Config) -> LayerSpec:
    """The MTP module: attention and experts in one (pattern *E)."""
    pattern = config.text("mtp_hybrid_override_pattern", default="*E")
    if pattern != "*E":
        raise config.error(f"mtp_hybrid_override_pattern is {pattern!r}, expected '*E'")
    return LayerSpec(grouped_attention(config), experts(config), 1)


def experts(config: Config) -> FeedForwardSpec:
    """Ungated experts, in a narrower latent width where stated."""
    latent = config.integer("moe_latent_size", default=0, least=0)
    return replace(mixture(config, gated=False), latent=latent)


def one_block(config: Config, letter: str) -> LayerSpec:
    """The block of one letter."""
    blocks: dict[str, Callable[[], LayerSpec]] = {
        "M": lambda: LayerSpec(mamba(config), None, 1, norms=1),
        "*": lambda: LayerSpec(grouped_attention(config), None, 1, norms=1),
        "-": lambda: LayerSpec(None, dense(config, gated=False), 1, norms=1),
        "E": lambda: LayerSpec(None, experts(config), 1, norms=1),
    }
    if letter not in blocks:
        raise config.error(f"hybrid_override_pattern has {letter!r}, expected letters M, *, - or E")
    return blocks[letter]()
