"""A model as dimensions: what a config.json says, in one vocabulary for all families."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AttentionSpec:
    """One attention (or token-mixing) block.

    kind: gqa | mla | linear (gated delta net, kimi delta attention) | mamba (Mamba-2).
    gqa: heads, kv_heads, qk_head_dim = v_head_dim; window > 0 is sliding, chunk > 0 is chunked-local.
    mla: q_lora_rank (0 = none), kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim.
    sparse: index_topk > 0 keys are picked by an indexer of index_heads x index_head_dim (0 heads: reused from below);
    compress_ratio > 1: the cache holds one entry per that many tokens (DeepSeek V4).
    linear/mamba: linear_key_heads x linear_key_head_dim, linear_value_heads x linear_value_head_dim, conv_kernel,
    (mamba: value heads x head dim = inner size, key head dim = state size, key heads = groups).
    output_lora_rank, output_groups: grouped low-rank output projection (DeepSeek V4). gate: output gate as wide as v.
    index_block > 1: keys are picked in blocks of that many. kv_projections = 1: one matrix makes keys and values;
    kv_vectors = 1: keys and values are one stored vector. decay_rank, gate_rank: low-rank decay and output gate of a
    linear block (0 = one number per head, or full rank). sinks: a learned logit per head.
    """

    kind: str
    heads: int
    kv_heads: int
    qk_head_dim: int
    v_head_dim: int
    window: int = 0
    chunk: int = 0
    q_bias: bool = False
    out_bias: bool = False
    qk_norm: bool = False
    gate: bool = False
    q_lora_rank: int = 0
    kv_lora_rank: int = 0
    qk_nope_head_dim: int = 0
    qk_rope_head_dim: int = 0
    index_topk: int = 0
    index_heads: int = 0
    index_head_dim: int = 0
    compress_ratio: int = 1
    output_lora_rank: int = 0
    output_groups: int = 1
    linear_key_heads: int = 0
    linear_value_heads: int = 0
    linear_key_head_dim: int = 0
    linear_value_head_dim: int = 0
    conv_kernel: int = 0
    index_block: int = 1
    kv_projections: int = 2
    kv_vectors: int = 2
    decay_rank: int = 0
    gate_rank: int = 0
    sinks: bool = False


@dataclass(frozen=True, slots=True)
class FeedForwardSpec:
    """One feed-forward block. experts = 0 is dense (inter); else inter is per expert and shared_inter the shared ones.

    latent: routed experts work in this narrower width (0 = hidden). groups > 1: one pick per group (MoGE), which
    balances the devices by construction. router_groups, router_kept: experts are in groups of which a token's picks
    use at most router_kept (DeepSeek's node-limited routing; equal numbers: no limit). gated: gate and up matrices
    (SwiGLU); bias on all matrices.
    """

    inter: int
    gated: bool = True
    bias: bool = False
    experts: int = 0
    topk: int = 0
    shared_inter: int = 0
    shared_gate: bool = False
    groups: int = 1
    latent: int = 0
    zero_experts: int = 0
    router_groups: int = 1
    router_kept: int = 1


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One kind of layer and how many the model has of it. Either part may be absent (hybrid models).

    shortcut: a MoE beside the dense feed-forward on the same input (LongCat). parallel: attention and feed-forward
    read the same normed input and are added together (PaLM, GPT-J, Falcon).
    """

    attention: AttentionSpec | None
    feed_forward: FeedForwardSpec | None
    count: int
    norms: int = 2  # norms over hidden (4 with sandwich norm)
    shortcut: FeedForwardSpec | None = None
    parallel: bool = False


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Everything that the workload needs. Layers are grouped by kind; `order` lists the kind index layer by layer.

    positions: rope | learned | alibi | none; norm: rms | layer; mtp: the layer kind of one MTP module (None = no MTP)
    and mtp_count modules, each run mtp_repeats times. Weights are counted by model.parameters.
    """

    name: str
    architecture: str
    hidden: int
    vocab: int
    layers: tuple[LayerSpec, ...]
    order: tuple[int, ...]
    tied_embeddings: bool = False
    positions: str = "rope"
    max_positions: int = 0
    norm: str = "rms"
    mtp: LayerSpec | None = None
    mtp_count: int = 0
    mtp_repeats: int = 1
    hyper_connections: int = 1  # residual streams (DeepSeek V4 mHC)
    weight_format: str = ""  # of the checkpoint, by its quantization_config ("" = not quantised)
    multimodal: bool = False  # the configuration describes a vision or audio part, which is left out

    def __hash__(self) -> int:
        """Hash of the sizes alone: models are keys of many caches, which compare equal hashes in full."""
        return hash((self.name, self.hidden, self.vocab, len(self.order)))

    @property
    def mtp_passes(self) -> int:
        """How often an MTP module runs per step, over all modules."""
        return self.mtp_count * self.mtp_repeats

    @property
    def n_layers(self) -> int:
        """Transformer layers without MTP modules."""
        return len(self.order)
