"""A training case in the words of the workload: what one microbatch asks of one device, and the operators of each
block."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

from supertwin.model.spec import LayerSpec, ModelSpec
from supertwin.training import assumptions as assume
from supertwin.training.case import TrainingCase
from supertwin.training.casts import Casts, cast_list, casts_of
from supertwin.training.expert_bias import bias_operators, has_expert_bias
from supertwin.training.frameworks import Framework
from supertwin.training.recurrence import scanned_again
from supertwin.training.unfused import unfused, with_one_head_size
from supertwin.workload.backward import backward
from supertwin.workload.balance import expected_maximum
from supertwin.workload.layer import embedding_operators, head_operators, layer_operators, mtp_operators
from supertwin.workload.operators import Gemm, Operator, Vector, changed
from supertwin.workload.shard import Shard, Step

_BIASED = ("attention/qkv", "attention/out", "mlp/up", "mlp/down")
_DROPOUT_PASSES = 5.5 / 4.0
_CASTS = Casts()
_MODULE_PARTS = {
    "norm": ("norm/",),
    "activation": ("mlp/act", "moe/act", "moe/shared/act"),
    "mla_up": ("attention/q", "attention/kv", "attention/rope"),
    "attention": ("attention/",),
    "mlp": ("mlp/",),
    "experts": ("moe/",),
}
"""What each recomputed module repeats, by the first letters of the operators' parts."""
_LOSS_PASSES = (38.0 / 10.0, 14.0 / 6.0, 1.0)  # forward, backward, recomputed
NETWORK_PATHS = ("ib", "roce", "efa", "tcp")


@dataclass(frozen=True, slots=True)
class BlockOperators:
    """Operators of one block for one microbatch. again: what recomputation repeats before the backward pass."""

    forward: tuple[Operator, ...]
    backward: tuple[Operator, ...]
    again: tuple[Operator, ...] = ()


@dataclass(frozen=True, slots=True)
class Recipe:
    """Switches that change the operators of a block. recompute: none, selective or full; lora_rank 0 trains all
    weights; dropout: on attention probabilities and on the output of each block; bias_sums: gradients of biases are
    kernels of their own; loss_apart: the loss is a row of tensor operations; alibi_apart, triangle,
    softmax_block, softmax_scans: see unfused.unfused; casts: of low-precision operands; modules: recomputed single
    modules; one_hot: tokens are looked up by a matrix product; expert_bias: see expert_bias.py; latent_padding: see
    Framework."""

    recompute: str = "none"
    flash: bool = True
    lora_rank: int = 0
    dropout: bool = False
    bias_sums: bool = False
    loss_apart: bool = False
    alibi_apart: bool = False
    triangle: bool = False
    softmax_block: int = 1
    casts: Casts = _CASTS
    modules: tuple[str, ...] = ()
    softmax_scans: bool = False
    one_hot: bool = False
    expert_bias: bool = False
    latent_padding: int = 0


def shard_of(case: TrainingCase, framework: Framework) -> Shard:
    """Parallel sizes and formats. Low-precision recipes keep the LM head, and by default attention, in BF16."""
    layout = case.layout
    wide = "fp16" if case.precision == "fp16" else "bf16"
    return Shard(
        tp=layout.tp,
        ep=layout.ep,
        etp=layout.etp,
        cp=layout.cp,
        sequence_parallel=case.sequence_parallel and layout.tp > 1,
        linear_dtype=case.precision,
        expert_dtype=case.precision,
        attention_dtype=case.attention_dtype or wide,
        head_dtype=wide,
        moe_transport=transport_of(case, framework),
        context=case.cp_method,
        ulysses=case.ulysses_size or 1,
        balanced_context=case.cp_balanced,
        dispatch_dtype=case.dispatch_dtype or "bf16",
        redundant_experts=case.redundant_experts,
        fused_experts=False,
    )


def transport_of(case: TrainingCase, framework: Framework) -> str:
    """How tokens reach their experts. Dispatch kernels that send a token once per node pay off between nodes; inside a
    scale-up domain all-to-all, whose message HybridEP shrinks (Fabric), unless the job names DeepEP's kernels."""
    named = {"all_to_all": "all_to_all", "deepep": "dispatch"}.get(case.dispatcher)
    if named:
        return named
    inside = [tier.devices for tier in case.system.tiers if tier.path not in NETWORK_PATHS]
    span = case.layout.ep * case.layout.etp
    far = "dispatch" if case.dispatcher else framework.transport
    return far if span > max(inside, default=1) else "all_to_all"


def step_of(case: TrainingCase) -> Step:
    """One microbatch. A pack is split into spans that attention does not cross."""
    length = span_length(case)
    spans = case.seq_len / length
    return Step(phase="train", sequences=case.micro_batch * spans, q_len=length, kv_len=length)


def span_length(case: TrainingCase) -> float:
    """Length of the equal samples whose attention costs what that of the pack's samples does.

    Attention of a sample grows with the square of its length l, so the mean over a pack is E[l^2] / E[l] =
    mean (1 + cv^2) tokens per query's sample; at most the whole pack.
    """
    if not case.packed:
        return float(case.seq_len)
    mean = case.sample_len or case.seq_len / assume.PACKED_SPANS.value
    return min(mean * (1.0 + case.sample_cv**2), float(case.seq_len))


def pack_excess(case: TrainingCase) -> float:
    """Attention of the replica with the longest samples over the mean, for lengths spread log-normally.

    The relative variance of l^2 is (1 + cv^2)^4 - 1; a step sums it over the samples of all packs of a replica
    (WLB-LLM, arXiv 2503.17924, section 2: replicas wait for the heaviest pack).
    """
    if not (case.packed and case.sample_cv):
        return 1.0
    mean = case.sample_len or case.seq_len / assume.PACKED_SPANS.value
    samples = max(case.seq_len / mean * case.global_batch / case.layout.dp, 1.0)
    spread = math.sqrt(((1.0 + case.sample_cv**2) ** 4 - 1.0) / samples)
    return 1.0 + expected_maximum(case.layout.dp) * spread


def recipe_of(case: TrainingCase, framework: Framework) -> Recipe:
    """Switches of the case; partial recomputation is full recomputation of some layers."""
    again = {"partial": "full"}.get(case.recompute, case.recompute)
    habit = framework.flash and (framework.alibi_fused or case.model.positions != "alibi")
    flash = habit if not case.attention_kernel else case.attention_kernel == "flash"
    rank = case.lora_rank if case.task == "lora" else 0
    classic = biased(case.model) and not rank
    apart = framework.loss_apart if case.fused_loss is None else not case.fused_loss
    alibi = framework.alibi_apart and case.model.positions == "alibi"
    triangle = case.attention_kernel == "triangle"
    classics = (framework.dropout and classic, framework.bias_apart and classic)
    shared_by = case.layout.tp if case.sequence_parallel else 1
    launch = case.launch or framework.launch
    casts = casts_of(case.system.chip.architecture, framework.scaling, launch, shared_by)
    casts = replace(casts, fused_experts=case.fused_experts)
    modules = case.recompute_modules
    bias = framework.grouped_experts and not case.fused_experts and has_expert_bias(case.model)
    ways = (framework.softmax_scans, framework.one_hot, bias)
    block, padding = framework.softmax_block, framework.latent_padding
    return Recipe(again, flash, rank, *classics, apart, alibi, triangle, block, casts, modules, *ways, padding)


@lru_cache(maxsize=512)
def biased(model: ModelSpec) -> bool:
    """Whether the model is of the GPT-2 and GPT-3 family: LayerNorm and biases on ungated matrices."""
    blocks = [kind.feed_forward for kind in model.layers if kind.feed_forward is not None]
    return model.norm == "layer" and any(block.bias and not block.gated for block in blocks)


@lru_cache(maxsize=2048)
def layer_block(model: ModelSpec, kind: LayerSpec, step: Step, shard: Shard, recipe: Recipe) -> BlockOperators:
    """Operators of one layer."""
    mamba = kind.attention is not None and kind.attention.kind == "mamba"
    return _block(layer_operators(model, kind, step, shard), recipe, mamba)


@lru_cache(maxsize=2048)
def end_blocks(model: ModelSpec, step: Step, shard: Shard, recipe: Recipe) -> tuple[BlockOperators, ...]:
    """Operators of the embedding, of the LM head with loss, and of one MTP module (empty without one)."""
    plain = replace(recipe, recompute="none")
    lists = (embedding_operators, head_operators, mtp_operators)
    blocks = tuple(_block(make(model, step, shard), plain) for make in lists)
    if not recipe.one_hot:
        return blocks
    product = one_hot_product(model, step, shard)
    gradient = [op for op in backward([product]) if isinstance(op, Gemm) and op.direction == "wgrad"]
    table = blocks[0]
    looked_up = replace(table, forward=(product, *table.forward), backward=(*table.backward, *gradient))
    return (looked_up, *blocks[1:])


def one_hot_product(model: ModelSpec, step: Step, shard: Shard) -> Gemm:
    """Look-up as the product of one-hot rows and the table; of its backward only the table's gradient."""
    rows, columns = step.tokens(shard), model.vocab / shard.tp
    return Gemm(part="embedding/one_hot", m=rows, n=float(model.hidden), k=columns, dtype=shard.head_dtype)


def _block(forward: list[Operator], recipe: Recipe, mamba: bool = False) -> BlockOperators:
    frozen = recipe.lora_rank > 0
    back = backward(forward, weight_gradients=not frozen)
    if frozen:
        adapters = adapter_operators(forward, recipe.lora_rank)
        back = back + backward(adapters)
        forward = forward + adapters
    if mamba:
        back = back + scanned_again(forward)
    if recipe.expert_bias:
        back = back + bias_operators(forward, backward=True)
        forward = forward + bias_operators(forward)
    again = _recomputed(forward, recipe)
    lists = [cast_list(ops, recipe.casts) for ops in (forward, back)]
    lists.append(list(lists[0]) if again is forward else cast_list(again, recipe.casts))
    if recipe.bias_sums:
        lists[1] += bias_sums(lists[1])
    if recipe.flash and recipe.latent_padding:
        lists = [with_one_head_size(ops, recipe.latent_padding) for ops in lists]
    if not recipe.flash:
        lists = [_unfused(ops, recipe) for ops in lists]
    if recipe.loss_apart:
        lists = [repeated_passes(ops, passes) for ops, passes in zip(lists, _LOSS_PASSES, strict=True)]
    if recipe.dropout:
        lists = [[dropped(op) for op in ops] for ops in lists]
    return BlockOperators(*(tuple(ops) for ops in lists))


def _recomputed(forward: list[Operator], recipe: Recipe) -> list[Operator]:
    """Operators that run once more before the backward pass."""
    if recipe.recompute == "full":
        return forward
    parts = tuple(part for module in recipe.modules for part in _MODULE_PARTS[module])
    core = recipe.recompute == "selective"
    return [op for op in forward if op.part.startswith(parts) or (core and op.part.endswith("attention/core"))]


def _unfused(operators: list[Operator], recipe: Recipe) -> list[Operator]:
    return unfused(
        operators,
        dropout=recipe.dropout,
        alibi=recipe.alibi_apart,
        triangle=recipe.triangle,
        softmax_block=recipe.softmax_block,
        scans=recipe.softmax_scans,
    )


def bias_sums(backward_ops: list[Operator]) -> list[Operator]:
    """Column sums of the output gradients, one per biased matrix: each reads the gradient once more."""
    found = [op for op in backward_ops if isinstance(op, Gemm) and op.direction == "wgrad" and op.part in _BIASED]
    return [
        Vector(part=op.part, op="add", bytes_read=2.0 * op.k * op.n, bytes_written=4.0 * op.n, flop=op.k * op.n)
        for op in found
    ]


def repeated_passes(operators: list[Operator], passes: float) -> list[Operator]:
    """Vocabulary loss by a row of tensor operations, as Megatron's cross_entropy.py writes it: cast, maximum, subtract,
    exponential, sum and divide over the FP32 logits move 38 bytes each, the backward product and cast 14."""
    return [
        changed(op, bytes_read=passes * op.bytes_read, bytes_written=passes * op.bytes_written)
        if isinstance(op, Vector) and op.op == "loss"
        else op
        for op in operators
    ]


def dropped(operator: Operator) -> Operator:
    """Add and norm with dropout on the block's output: 5.5 passes over the stream instead of 4 (mask, one byte)."""
    if isinstance(operator, Vector) and operator.part in ("norm/attention", "norm/mlp"):
        return changed(
            operator,
            bytes_read=_DROPOUT_PASSES * operator.bytes_read,
            bytes_written=_DROPOUT_PASSES * operator.bytes_written,
        )
    return operator


def adapter_operators(forward: list[Operator], rank: int) -> list[Operator]:
    """Low-rank products beside each dense matrix (routed experts and router excluded): [m,k] x [k,r], [m,r] x [r,n]."""
    result: list[Operator] = []
    for op in forward:
        if isinstance(op, Gemm) and op.part.startswith(("attention/", "mlp/", "moe/shared")):
            result.append(Gemm(part=f"{op.part}_adapter", m=op.m, n=float(rank), k=op.k))
            result.append(Gemm(part=f"{op.part}_adapter", m=op.m, n=op.n, k=float(rank)))
    return result
