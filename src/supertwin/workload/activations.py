"""Bytes of activations that one layer keeps for its backward pass, under any recomputation."""

from __future__ import annotations

from dataclasses import dataclass

from supertwin.core.errors import InputError, nearest_sentence
from supertwin.model.spec import AttentionSpec, FeedForwardSpec, LayerSpec, ModelSpec
from supertwin.workload.block import WIDE, bytes_of, stream_rows
from supertwin.workload.core import local_heads
from supertwin.workload.feed_forward import expert_rows
from supertwin.workload.operators import Real
from supertwin.workload.recurrent import CHUNK, state_values
from supertwin.workload.shard import Shard, Step

FP32_BYTES = 4.0
MODULES = ("norm", "activation", "mla_up", "attention", "mlp", "experts")


@dataclass(frozen=True, slots=True)
class Recompute:
    """What is kept for the backward pass.

    mode: none, selective (scores of the attention core are computed again), full (only the layer input is kept);
    flash: the attention kernel keeps one FP32 number per head and token instead of the score matrix;
    dropout: masks of one byte are kept (GPT-3 style training).
    modules: single modules computed again or moved away (MODULES): norm outputs, activation outputs, up-projections of
    latent attention, all of attention, of the dense feed-forward, of the routed experts (Megatron-Core
    recompute_modules layernorm, moe_act, mla_up_proj, mlp, moe; MindSpeed --recompute-norm,
    --recompute-activation-function, --recompute-mla-up-proj, --swap-attention).
    plain: norm and activation are rows of tensor operations, of which autograd keeps each input (transformers library).
    frozen: "" trains all matrices; "all" and "attention" name the matrices with low-rank adapters on a frozen base: a
    frozen matrix without adapter needs no input for its backward pass.
    narrow_activation: inputs of the activation are kept in 8 bits (Transformer Engine, fp8_activation_input_store).
    """

    mode: str = "none"
    flash: bool = True
    dropout: bool = False
    modules: frozenset[str] = frozenset()
    plain: bool = False
    frozen: str = ""
    narrow_activation: bool = False

    def __post_init__(self) -> None:
        if self.mode not in ("none", "selective", "full"):
            raise InputError(f"recompute is {self.mode!r}, expected none, selective or full")
        for module in sorted(self.modules - set(MODULES)):
            raise InputError(f"recompute module {module!r} is not known; {nearest_sentence(module, MODULES)}")

    def adapts(self, part: str) -> bool:
        """Whether the matrices of a part (attention, mlp) keep their input."""
        return self.frozen in ("", "all", part)


def activation_bytes(model: ModelSpec, layer: LayerSpec, step: Step, shard: Shard, keep: Recompute) -> Real:
    """Bytes that one layer keeps for one micro-batch on one device.

    Korthikanti et al. (arXiv 2205.05198), section 4, item by item, generalised to grouped-query and latent attention,
    gated and expert feed-forward and FP8 inputs. For its GPT layer: s b h (10 + 24/t + 5 a s / (h t)).
    """
    rows = step.tokens(shard)
    own = stream_rows(rows, shard)
    if keep.mode == "full":
        return own * model.hidden * 2.0
    total: Real = 0.0
    blocks = (layer.feed_forward, layer.shortcut)
    entries = sum(1 for b in (layer.attention, *blocks) if b is not None)
    # norm input and output-dropout mask of each block; the norm output is the input of its first matrix. As tensor
    # operations a norm keeps its input widened to FP32 and the normalised values before the weight.
    norm = 6.0 if keep.plain else 2.0
    total = total + own * model.hidden * entries * (norm + (1.0 if keep.dropout else 0.0))
    if layer.norms >= 4:
        total = total + own * model.hidden * norm * entries
    if layer.attention is not None and "attention" not in keep.modules:
        total = total + attention_activations(model, layer.attention, step, shard, keep)
    for block in blocks:
        if block is not None:
            total = total + feed_forward_activations(model, block, rows, shard, keep)
    return total


def saved(dtype: str) -> float:
    """Bytes of a saved matrix input: narrow formats are saved as quantised."""
    return 2.0 if dtype in WIDE else bytes_of(dtype)


def matrix_input(width: Real, shard: Shard, keep: Recompute, part: str) -> Real:
    """Bytes per token of the norm output that enters the first matrix of a part."""
    if "norm" in keep.modules or not keep.adapts(part):
        return 0.0
    return width * (2.0 if keep.frozen else saved(shard.linear_dtype))  # adapters read the input in BF16


def attention_activations(model: ModelSpec, block: AttentionSpec, step: Step, shard: Shard, keep: Recompute) -> Real:
    """Kept tensors of one attention block without its norm input."""
    rows = step.tokens(shard)
    own = stream_rows(rows, shard)
    narrow = saved(shard.linear_dtype)
    heads, kv_heads = local_heads(block, shard)
    first = own * matrix_input(model.hidden, shard, keep, "attention")
    if block.kind in ("linear", "mamba"):
        return first + recurrent_activations(block, rows, shard)
    out = rows * heads * block.v_head_dim * 2.0
    if block.kind == "mla":
        ranks = own * (block.q_lora_rank + block.kv_lora_rank + block.qk_rope_head_dim) * (2.0 + narrow)
        projected = rows * heads * (2 * block.qk_head_dim + block.v_head_dim) * 2.0
        triple = ranks + (0.0 if "mla_up" in keep.modules else projected)
    else:
        triple = rows * (heads + kv_heads * block.kv_vectors) * block.qk_head_dim * 2.0
        triple = triple + own * block.q_lora_rank * (2.0 + narrow)
    gate = 2 * out if block.gate else 0.0
    return first + triple + out + gate + score_activations(heads, step, rows, keep)


def score_activations(heads: Real, step: Step, rows: Real, keep: Recompute) -> Real:
    """Softmax output (2 bytes), its dropout mask (1) and dropout output (2) per score; FP32 statistics with flash."""
    if keep.flash:
        return rows * heads * FP32_BYTES
    if keep.mode == "selective":
        return 0.0
    return rows * heads * step.kv_len * (5.0 if keep.dropout else 2.0)


def recurrent_activations(block: AttentionSpec, rows: Real, shard: Shard) -> Real:
    """Inputs and outputs of the convolution, gate, output, and the state at each chunk."""
    key = block.linear_key_heads * block.linear_key_head_dim / shard.tp
    value = block.linear_value_heads * block.linear_value_head_dim / shard.tp
    mixed = 2 * (2 * key + value)
    states = state_values(block, shard) / CHUNK[block.kind]
    return rows * (mixed + 3 * value + states) * 2.0


def feed_forward_activations(
    model: ModelSpec, block: FeedForwardSpec, rows: Real, shard: Shard, keep: Recompute
) -> Real:
    """Kept tensors of one feed-forward block without its norm input."""
    own = stream_rows(rows, shard)
    first = own * matrix_input(model.hidden, shard, keep, "mlp")
    if not block.experts:
        if "mlp" in keep.modules:
            return first
        return first + rows * block.inter / shard.tp * _inner(block, saved(shard.linear_dtype), keep)
    pairs, width = expert_rows(block, rows, shard), block.latent or model.hidden
    thin = saved(shard.expert_dtype)
    arriving = width * (thin if keep.adapts("mlp") else 0.0)
    routed = pairs * (arriving + block.inter / shard.etp * _inner(block, thin, keep))
    router = own * block.experts * 2 * FP32_BYTES
    shared = rows * block.shared_inter / shard.tp * _inner(block, saved(shard.linear_dtype), keep)
    return first + (0.0 if "experts" in keep.modules else routed) + router + shared


def _inner(block: FeedForwardSpec, narrow: float, keep: Recompute) -> float:
    """Bytes per inner value: what enters the activation (gate and up), and the product that enters the last matrix."""
    wide = 2 if block.gated else 1
    entering = wide * (1.0 if keep.narrow_activation else 2.0)
    if keep.plain and block.gated:
        entering += 2.0  # the activated gate is an operand of the product
    left = 0.0 if "activation" in keep.modules or not keep.adapts("mlp") else narrow
    return entering + left
