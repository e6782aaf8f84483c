"""The operators of one step, block by block: which shards, formats and exchanges a deployment means."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from supertwin.core.formats import number_format
from supertwin.inference.balance import Slots, rank_skew
from supertwin.inference.case import Deployment, InferenceCase
from supertwin.inference.context import in_hops
from supertwin.inference.drafts import draft_passes, drafter
from supertwin.inference.engines import Engine, rebalances
from supertwin.inference.engines import engine as engine_named
from supertwin.inference.fused import in_kernels
from supertwin.inference.habits import PLAIN, Habits
from supertwin.inference.kept import with_kept_formats
from supertwin.inference.local import cut_locally, widths
from supertwin.inference.offload import with_host_keys
from supertwin.inference.own_drafts import own_draft_passes
from supertwin.inference.passes import with_latent_copies, with_routing_passes
from supertwin.inference.picks import with_narrow_cores, with_padding
from supertwin.inference.placement import Placement, moe, place
from supertwin.inference.shape import Shape
from supertwin.machine.chip import Chip
from supertwin.model.spec import FeedForwardSpec, LayerSpec, ModelSpec
from supertwin.workload.layer import embedding_operators, head_operators, layer_operators
from supertwin.workload.operators import ExpertMlp, Gemm, Operator, Real, Vector, changed
from supertwin.workload.shard import Shard, Step, maximum

WIDE = ("bf16", "fp16", "fp32", "tf32")
GATHER_MOST_RANKS = 8
"""Engines that gather tokens over NVLink use dispatch kernels beyond one node (vLLM wide-EP, TensorRT-LLM docs)."""


@dataclass(frozen=True, slots=True)
class Block:
    """Operators that run `count` times per step. layer: one of the model's layers; microbatches: 2 where the operators
    are those of one of two overlapped micro-batches; shortcut: its experts run beside the dense path (LongCat-Flash,
    arXiv 2509.01322), which hides their exchange; skew: rows that the busiest rank sends or gets over those of a rank
    with all its sequences; pair: a layer with shortcut experts together with the dense layer after it."""

    operators: tuple[Operator, ...]
    count: float
    layer: bool = False
    microbatches: int = 1
    shortcut: bool = False
    skew: Real = 1.0
    pair: bool = False


def computed_in(weight: str, activation: str, chip: Chip) -> tuple[str, str]:
    """(format of the matrix engine, format that weights are stored in) for a weight and an activation format.

    Wide activations, or a format that the chip does not multiply, mean weight-only quantisation.
    """
    native = number_format(weight).rate in chip.peak_flop_per_s
    if activation in WIDE:
        return activation, weight
    if weight == activation:
        return (weight, weight) if native else ("bf16", weight)
    return (activation, weight) if number_format(activation).rate in chip.peak_flop_per_s else ("bf16", weight)


def shard_of(model: ModelSpec, deployment: Deployment, placement: Placement, chip: Chip, engine: Engine) -> Shard:
    """The shard of one device. Checkpoints with 4-bit experts keep other matrices wider: BF16 beside NVFP4 (latent
    attention; see with_kept_formats), MXFP4 and weight-only INT4; the 8-bit format of the activations beside W4A8
    (DeepSeek-V4: FP8 beside MXFP4 experts; Ascend: INT8). vLLM multiplies MXFP4 experts on Blackwell by FlashInfer's
    kernels of TensorRT-LLM, timed with MXFP8 activations (mxfp4.py, get_mxfp4_backend)."""
    d, p = deployment, placement
    dtype, weight = computed_in(d.weight_dtype, d.activation_dtype, chip)
    linear, linear_weight = dtype, weight
    mixture = moe(model)
    latent = any(x.attention is not None and x.attention.kind == "mla" for x in model.layers)
    if mixture is not None and number_format(d.weight_dtype).bytes_per_element < 1.0:
        if number_format(d.activation_dtype).bytes_per_element >= 1.0 and d.activation_dtype not in WIDE:
            linear, linear_weight = computed_in(d.activation_dtype, d.activation_dtype, chip)
        elif latent or d.weight_dtype in ("mxfp4", "int4"):
            linear = linear_weight = "bf16"
    sent = d.activation_dtype
    own = next((x for x in d.part_dtypes if x[0] == "experts"), None)
    if own is not None:
        sent, (dtype, weight) = own[2], computed_in(own[1], own[2], chip)
    elif (dtype, weight) == ("bf16", "mxfp4") and engine.name.startswith("vllm") and chip.architecture == "blackwell":
        dtype = "mxfp8"
    payload = number_format(sent).rate if sent not in WIDE else "bf16"
    return Shard(
        tp=p.tp, ep=p.ep, etp=p.etp, cp=p.cp,
        linear_dtype=linear, weight_dtype=linear_weight, expert_dtype=dtype, expert_weight_dtype=weight,
        kv_dtype=d.kv_dtype,
        dispatch_dtype={"int8": "int8", "fp8": "fp8", "fp4": "fp8", "int4": "int8"}.get(payload, "bf16"),
        moe_transport=transport(p, engine),
        context=d.cp_method if p.token_split > 1 else "all_gather", balanced_context=d.cp_balanced,
        expert_distribution="balanced" if d.expert_balance == "perfect" else "uniform",
        redundant_experts=d.redundant_experts if p.ep > 1 else 0,
    )  # fmt: skip


def transport(placement: Placement, engine: Engine) -> str:
    """How tokens reach experts: not at all inside one tensor-parallel group (its ranks hold all tokens), by dispatch
    kernels, or by gathering the tokens of all attention ranks."""
    if placement.ranks * placement.context_share == 1:
        return "all_reduce"
    if placement.ep > 1 and (engine.exchange == "dispatch" or placement.moe_devices > GATHER_MOST_RANKS):
        return "dispatch"
    return "all_gather"


def dispatches(case: InferenceCase) -> bool:
    """Whether tokens of a case reach their experts by dispatch kernels."""
    d = case.deployment
    return (
        moe(case.model) is not None and transport(place(d), engine_named(d.framework, case.system.chip)) == "dispatch"
    )


def blocks(
    model: ModelSpec,
    deployment: Deployment,
    placement: Placement,
    shape: Shape,
    shard: Shard,
    about: Habits = PLAIN,
) -> tuple[Block, ...]:
    """All blocks of a step: embedding, layers by kind, head, and the draft passes.

    With micro-batch overlap, layers whose experts lie behind an exchange are given for one of two micro-batches.
    """
    model = spread_shared(model, placement, deployment.redundant_experts)
    fill, met = shape.fill(placement.ranks), shape.met(placement.ranks)
    step, cut = _sized(model, deployment, placement, shape, shard)
    sharers = placement.ranks * placement.context_share
    overlapped = deployment.microbatch_overlap and placement.ep > 1 and sharers > 1
    half = _sized(model, deployment, placement, shape.halved(), shard) if overlapped else (step, cut)
    out = [Block(tuple(embedding_operators(model, step, cut)), 1.0)]
    for layer in model.layers:
        split = overlapped and _has_experts(layer)
        sized = half if split else (step, cut)
        skew = sized[1].expert_skew * met
        ops = tuple(_of_layer(model, layer, sized, (fill, skew), about))
        skew = maximum(skew, 1.0)  # the other way of a pair: a full rank sends all its tokens
        out.append(Block(ops, float(layer.count), True, 2 if split else 1, layer.shortcut is not None, skew))
    if about.pairs:
        out = joined_pairs(out)
    out.append(Block(tuple(head_operators(model, step, cut)), 1.0))
    if shape.phase == "decode" and deployment.mtp_tokens:
        out += _drafts(model, deployment, (step, cut), fill, about)
    if deployment.kv_pool:
        out = [replace(block, operators=tuple(with_host_keys(block.operators, deployment.kv_pool))) for block in out]
    groups = widths(deployment)
    if groups:
        out = [replace(block, operators=tuple(cut_locally(block.operators, groups))) for block in out]
    return tuple(out)


def _of_layer(
    model: ModelSpec, layer: LayerSpec, sized: tuple[Step, Shard], shares: tuple[Real, Real], about: Habits
) -> list[Operator]:
    """Operators of one layer as engines run them. shares: of ranks that have sequences, and of the rows of a full rank
    that the busiest one gets."""
    (step, shard), (fill, skew) = sized, shares
    ops = with_kept_formats(_busy_share(layer_operators(model, layer, step, shard), fill), model, layer, shard)
    if shard.context == "ring":
        ops = in_hops(ops, int(np.max(shard.cp)))
    if layer.attention is not None and layer.attention.kind == "mla":
        ops = with_latent_copies(ops, layer.attention, about.joins_keys)
        ops = with_padding(ops, layer.attention.index_topk, about.picks)
        if about.narrow_prompts:
            ops = with_narrow_cores(ops, shard.kv_dtype)
    if about.routes_in_passes:
        ops = with_routing_passes(ops, skew, about.wide_gate)
    return in_kernels(ops, layer.attention, step, about)


def joined_pairs(given: list[Block]) -> list[Block]:
    """Layers with shortcut experts as one block with the dense layer after them, beside which the experts run."""
    out: list[Block] = []
    for block in given:
        before = out[-1] if out else None
        if before is not None and before.shortcut and not before.pair and block.layer and block.count == before.count:
            out[-1] = replace(before, operators=before.operators + block.operators, pair=True)
        else:
            out.append(block)
    return out


def shared_fits(block: FeedForwardSpec) -> bool:
    """Whether the shared expert has the size of a routed one, so that a rank can hold it alone."""
    return block.experts > 0 and block.shared_inter == block.inter


@lru_cache(maxsize=64)
def spread_shared(model: ModelSpec, placement: Placement, redundant: int) -> ModelSpec:
    """With more ranks than routed experts and replicas, the other ranks hold copies of the shared expert, which then is
    one more pick of every token (CM384 paper 4.2.1: 320 dies = 256 routed + 32 redundant + 32 shared)."""

    def spread(layer: LayerSpec) -> LayerSpec:
        f = layer.feed_forward
        if f is None or not shared_fits(f) or placement.ep <= f.experts + redundant:
            return layer
        more = placement.ep - redundant
        return replace(layer, feed_forward=replace(f, experts=more, topk=f.topk + 1, shared_inter=0))

    mtp = spread(model.mtp) if model.mtp is not None else None
    return replace(model, layers=tuple(spread(x) for x in model.layers), mtp=mtp)


def _sized(
    model: ModelSpec, deployment: Deployment, placement: Placement, shape: Shape, shard: Shard
) -> tuple[Step, Shard]:
    step = Step(phase=shape.phase, sequences=shape.sequences, q_len=shape.q_len, kv_len=shape.kv_len)
    return step, replace(shard, expert_skew=expert_skew(model, deployment, placement, shape))


def _has_experts(layer: LayerSpec) -> bool:
    return any(block is not None and block.experts > 0 for block in (layer.feed_forward, layer.shortcut))


def _busy_share(ops: list[Operator], fill: Real) -> list[Operator]:
    """With fewer sequences than attention ranks, experts see only the busy ranks' tokens. A rank with one expert runs
    plain products."""
    if np.all(fill == 1.0) if isinstance(fill, np.ndarray) else fill == 1.0:
        filled = ops
    else:
        filled = [_fewer(o, fill) if isinstance(o, ExpertMlp) else o for o in ops]
    return [x for o in filled for x in (one_expert(o) if isinstance(o, ExpertMlp) else [o])]


def one_expert(operator: ExpertMlp) -> list[Operator]:
    """An expert alone on its rank needs no grouping and no permutation after a dispatch: up, activation, down."""
    if operator.routing or np.any(np.asarray(operator.experts) > 1.0):
        return [operator]
    o, rows = operator, operator.rows * operator.skew
    wide = o.inter * (2.0 if o.gated else 1.0)
    narrow = o.dtype not in WIDE
    up = Gemm(part=o.part, m=rows, n=wide, k=o.hidden, dtype=o.dtype, weight_dtype=o.weight_dtype)
    read, written = rows * wide * 2.0, rows * o.inter * 2.0
    act = Vector(part=o.part, op="activation", bytes_read=read, bytes_written=written, tokens=rows)
    down = Gemm(
        part=o.part, m=rows, n=o.hidden, k=o.inter, dtype=o.dtype, weight_dtype=o.weight_dtype, quantize_input=narrow
    )
    return [up, act, down]


def _fewer(operator: ExpertMlp, fill: Real) -> ExpertMlp:
    return changed(operator, rows=operator.rows * fill, tokens=operator.tokens * fill)


def expert_skew(model: ModelSpec, deployment: Deployment, placement: Placement, shape: Shape) -> Real:
    """Rows of the busiest expert rank over the mean."""
    block = moe(model)
    if block is None or placement.ep == 1 or block.groups > 1:
        return 1.0
    apart = placement.token_split / placement.context_share
    rows = shape.shared_tokens / apart * block.topk / placement.ep
    slots = Slots(placement.ep, block.experts, deployment.redundant_experts, rebalances(deployment.framework))
    return rank_skew(rows, slots, deployment.expert_balance, shape.prompts / apart)


def _drafts(
    model: ModelSpec, deployment: Deployment, sized: tuple[Step, Shard], fill: Real, about: Habits
) -> list[Block]:
    if not deployment.drafts_itself:
        found = drafter(model, deployment.draft)
        passes = [] if found is None else draft_passes(found, deployment, *sized)
        return [Block(tuple(ops), count) for ops, count in passes]
    drafts = (deployment.mtp_tokens, deployment.draft_topk)
    passes = own_draft_passes(model, drafts, sized, about)
    return [Block(tuple(_busy_share(ops, fill)), count) for ops, count in passes]
