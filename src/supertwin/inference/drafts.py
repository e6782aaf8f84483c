"""Who drafts tokens, what that costs, and how many of them are accepted.

    "", mtp        the model's own module (one layer and the head); without one, a layer of its first kind
    eagle          one dense layer behind a matrix that joins embedding and hidden state, and the target's head
                   (arXiv 2401.15077)
    eagle3         the same with hidden states of three layers joined, queries and keys from two inputs, and a head of
                   32,000 words (arXiv 2503.01840; shapes: configs of sgl-project/SpecForge, where models without dense
                   layer get one of about 6 x hidden)
    ngram, suffix  found in the text: nothing for the device to compute
    a model        a whole model beside the target, cut over the same tp, in BF16

A step verifies the root and its drafts in one pass of the target. The drafter first runs over the tokens of that step,
then once per further position over the nodes that are expanded there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from supertwin.core.errors import InputError, UnknownName
from supertwin.inference.acceptance import tree_nodes
from supertwin.inference.case import Deployment
from supertwin.model import load_model
from supertwin.model.parameters import layer_parameters, parameter_count
from supertwin.model.spec import AttentionSpec, FeedForwardSpec, LayerSpec, ModelSpec
from supertwin.workload.layer import embedding_operators, head_operators, model_operators
from supertwin.workload.operators import Gemm, Operator, changed
from supertwin.workload.shard import Shard, Step

OWN, HEADS, FREE = ("", "mtp"), ("eagle", "eagle3"), ("ngram", "suffix")
KINDS = ("mtp", *HEADS, *FREE)
EAGLE3_VOCAB, EAGLE_INTER_OVER_HIDDEN, EAGLE_HEADS = 32000, 6, 64
MOST_TOPK, MOST_VERIFIED = 64, 1024


@dataclass(frozen=True, slots=True)
class Drafter:
    """A model that drafts. joined: hidden states and embeddings that its first matrix joins (0: no such matrix);
    inputs: widths of hidden that queries and keys are made of; borrows: embedding (and head, where the vocabulary is
    the target's) are the target's own."""

    model: ModelSpec
    joined: int = 0
    inputs: int = 1
    borrows: bool = False
    borrows_head: bool = False


@lru_cache(maxsize=64)
def drafter(model: ModelSpec, kind: str) -> Drafter | None:
    """The drafter that runs beside the target; None for its own module and for drafts without a model.

    Raises InputError for a name that is neither, ModelError for a model that cannot be read.
    """
    if kind in OWN or kind in FREE:
        return None
    if kind in HEADS:
        head = replace(
            model, name=f"{kind} head", layers=(_dense_layer(model),), order=(0,), mtp=None, mtp_count=0,
            hyper_connections=1, vocab=min(EAGLE3_VOCAB, model.vocab) if kind == "eagle3" else model.vocab,
        )  # fmt: skip
        return Drafter(head, 3, 2, True) if kind == "eagle3" else Drafter(head, 2, 1, True, True)
    try:
        return Drafter(load_model(kind))
    except UnknownName:
        raise InputError(
            f"draft {kind[:40]!r}: expected {', '.join(KINDS)}, or the name or folder of a model"
        ) from None


def _dense_layer(model: ModelSpec) -> LayerSpec:
    """One dense layer with the attention of the target, or 64 heads of 128 where that is latent (Kimi-K2)."""
    own = next((x.attention for x in model.layers if x.attention is not None and x.attention.kind == "gqa"), None)
    dense = next((x.feed_forward for x in model.layers if x.feed_forward and not x.feed_forward.experts), None)
    inter = dense.inter if dense is not None else EAGLE_INTER_OVER_HIDDEN * model.hidden
    plain = AttentionSpec("gqa", EAGLE_HEADS, EAGLE_HEADS, 128, 128)
    if own is not None and own.compress_ratio == 1 and not own.index_topk:
        plain = AttentionSpec("gqa", own.heads, own.kv_heads, own.qk_head_dim, own.v_head_dim)
    return LayerSpec(plain, FeedForwardSpec(inter), 1)


def check_drafts(model: ModelSpec, d: Deployment) -> None:
    """Raise InputError for drafts that cannot be."""
    drafter(model, d.draft)
    if not d.mtp_tokens:
        return
    if not 1 <= d.draft_topk <= MOST_TOPK:
        raise InputError(f"draft_topk = {d.draft_topk}: expected 1 (a chain) to {MOST_TOPK}")
    if d.draft_topk > 1 and d.draft in FREE:
        raise InputError(f"draft_topk = {d.draft_topk}: {d.draft} drafts a chain; legal: 1")
    chain = d.draft_topk == 1
    most = min(MOST_VERIFIED, 1 + (d.mtp_tokens if chain else tree_nodes(d.mtp_tokens, d.draft_topk)))
    if d.verify_tokens and not (most if chain else 2) <= d.verify_tokens <= most:
        shape = f"a chain of {d.mtp_tokens} drafts" if chain else f"{d.mtp_tokens} levels of {d.draft_topk}"
        legal = f"{most}" if chain else f"2 to {most}"
        raise InputError(f"verify_tokens = {d.verify_tokens}: the root and {shape}; expected {legal}")
    if d.afd_instances and (d.draft not in OWN or d.draft_topk > 1):
        raise InputError(f"draft {d.draft or 'tree'!r} with --afd is not modelled; legal: a chain of mtp drafts")


def draft_passes(kind: Drafter, deployment: Deployment, step: Step, shard: Shard) -> list[tuple[list[Operator], float]]:
    """(operators, executions) of the first pass, over all tokens of the step, and of the further ones."""
    own = bf16(shard)
    out = [(_one_pass(kind, step, own, True), 1.0)]
    if deployment.mtp_tokens > 1:
        narrow = replace(step, q_len=float(deployment.draft_topk))
        out.append((_one_pass(kind, narrow, own, False), deployment.mtp_tokens - 1.0))
    return out


def bf16(shard: Shard) -> Shard:
    """The drafter's shard: the same tp, no expert parallelism, BF16 weights, the engine's format of the cache."""
    return replace(
        shard, ep=1, etp=shard.tp, linear_dtype="bf16", weight_dtype="", expert_dtype="bf16", expert_weight_dtype="",
        attention_dtype="bf16", moe_transport="all_reduce", expert_skew=1.0, redundant_experts=0,
    )  # fmt: skip


def _one_pass(kind: Drafter, step: Step, shard: Shard, catches_up: bool) -> list[Operator]:
    """catches_up: hidden states of the target are joined with the embeddings; later passes take the drafter's own.
    EAGLE-3 joins the target's states in one matrix once; EAGLE joins state and embedding in every pass."""
    model = kind.model
    ops: list[Operator] = embedding_operators(model, step, shard)
    if kind.joined and (catches_up or kind.borrows_head):
        hidden = float(model.hidden)
        ops.append(Gemm(part="join", m=step.tokens(shard), n=hidden, k=kind.joined * hidden))
    for o in model_operators(model, step, shard):
        wide = isinstance(o, Gemm) and o.part == "attention/qkv" and kind.inputs > 1
        ops.append(changed(o, k=o.k * kind.inputs) if wide and isinstance(o, Gemm) else o)
    ops += head_operators(model, step, shard)
    return [changed(o, part=f"mtp/{o.part}") for o in ops]


@lru_cache(maxsize=128)
def draft_weights_bytes(model: ModelSpec, kind: str, tp: int) -> float:
    """BF16 weights of the drafter on one device of tp."""
    found = drafter(model, kind)
    if found is None:
        return 0.0
    own, hidden = found.model, found.model.hidden
    if not found.borrows:
        return 2.0 * parameter_count(own).total / tp
    layer = layer_parameters(own, own.layers[0])
    a = own.layers[0].attention
    qkv = hidden * (a.heads + 2 * a.kv_heads) * a.qk_head_dim if a is not None else 0
    head = 0.0 if found.borrows_head else float(own.vocab * hidden)
    whole = layer.total + found.joined * hidden**2 + (found.inputs - 1) * qkv + head
    return 2.0 * whole / tp
