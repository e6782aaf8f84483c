"""Context parallelism of prefill: how ranks that share prompts come by each other's keys, and what it evens out.

    all_gather  every rank gathers all keys, then attends with its queries (vLLM prefill context parallelism, llama3)
    ring        blocks of keys travel while attention of the last block runs (arXiv 2310.01889): a hop takes the longer
                of both, cp - 1 hops and a last block; partial results are merged by their log-sum-exp in FP32
    ulysses     heads for tokens: all-to-all of queries, keys and values before attention, of results after it
                (arXiv 2309.14509); each rank needs a key head, so fewer ones are copied
    staged      latent attention: tokens, heads, tokens (CM384 paper, arXiv 2506.12708v2 section 4.3.1)

Without balance the last rank of a causal sequence holds the longest rows and all wait for it; zigzag gives each rank an
early and a late part (arXiv 2311.09431). Heads are even by themselves.

Data-parallel ranks with prompts of different lengths wait for the one with the most tokens. Sums of n log-normal
lengths of spread cv are taken as log-normal with spread cv / sqrt(n); of R ranks the busiest has, over the mean,

    exp(sigma e(R) - sigma^2 / 2),  sigma^2 = ln(1 + cv^2 / n)

e(R): expected maximum of R standard normal draws. Prompts are dealt out as they come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from supertwin.core.errors import InputError
from supertwin.inference.case import Deployment
from supertwin.inference.shape import Real, Shape
from supertwin.model.spec import ModelSpec
from supertwin.workload.balance import expected_maximum
from supertwin.workload.operators import Attention, Operator, Vector, changed

METHODS = ("all_gather", "ring", "ulysses", "staged")
_RUNNING_BYTES = 4.0  # the running result is FP32


def check_context_method(model: ModelSpec, deployment: Deployment) -> None:
    """Raise InputError where the model's attention cannot be cut that way."""
    d = deployment
    if d.cp_method not in METHODS:
        raise InputError(f"cp_method {d.cp_method!r}: expected one of {', '.join(METHODS)}")
    if d.token_split == 1 or d.cp_method == "all_gather":
        return
    blocks = [layer.attention for layer in model.layers if layer.attention is not None]
    if any(a.index_topk or a.compress_ratio > 1 for a in blocks):
        raise InputError(
            f"cp_method {d.cp_method}: queries of sparse attention ({model.name}) pick keys of all ranks; "
            "legal: all_gather"
        )
    if d.cp_method == "staged" and any(a.kind != "mla" for a in blocks):
        raise InputError(
            f"cp_method staged: {model.name} has other attention than latent (MLA); legal: all_gather, ring, ulysses"
        )
    heads = min((a.heads for a in blocks if a.kind in ("gqa", "mla")), default=0)
    if d.cp_method != "ring" and heads and heads % (d.tp * d.cp):
        legal = [i for i in range(1, heads + 1) if heads % (d.tp * i) == 0]
        raise InputError(
            f"cp_method {d.cp_method}: tp({d.tp}) x cp({d.cp}) does not divide the {heads} heads of {model.name}; "
            f"legal cp: {', '.join(map(str, legal))}"
        )


def in_hops(operators: Sequence[Operator], ranks: int) -> list[Operator]:
    """Attention around a ring: one kernel per block of keys, and between blocks a pass that merges the partial results
    (reads the running FP32 result and the new BF16 one, writes the running one). Windows reach few blocks and stay."""
    out: list[Operator] = []
    for o in operators:
        if not (isinstance(o, Attention) and o.part == "attention/core" and o.causal and np.all(o.window == 0.0)):
            out.append(o)
            continue
        keys = (o.kv_len - (o.q_len - 1.0) / 2.0) / ranks
        values = o.batch * o.q_len * o.heads * o.v_head_dim
        out.append(changed(o, kv_len=keys, causal=False, count=o.count * ranks))
        merge = Vector(
            part="attention/merge", op="add", count=o.count * (ranks - 1.0),
            bytes_read=values * (_RUNNING_BYTES + 2.0), bytes_written=values * _RUNNING_BYTES, flop=values * 4.0,
        )  # fmt: skip
        out.append(merge)
    return out


def busiest_rank(prompt_cv: float, prompts: Real, ranks: int) -> Real:
    """Tokens of the busiest of `ranks` over the mean when each has `prompts` prompts; between 1 and ranks."""
    if ranks <= 1 or prompt_cv == 0.0:
        return 1.0
    variance = np.log1p(prompt_cv**2 / prompts)
    found = np.exp(np.sqrt(variance) * expected_maximum(ranks) - variance / 2.0)
    return np.clip(found, 1.0, float(ranks))


def with_spread(shape: Shape, prompt_cv: float, ranks: int) -> Shape:
    """A prefill step whose prompts have lengths of spread prompt_cv over the mean, as its busiest rank sees it.

    Sums over tokens and over squares of lengths are kept: n / (1 + cv^2) prompts of (1 + cv^2) times the length, times
    what the busiest rank has more; the tokens that meet in the experts stay.
    """
    if prompt_cv == 0.0:
        return shape
    longer = 1.0 + prompt_cv**2
    more = busiest_rank(prompt_cv, shape.sequences, ranks)
    new = shape.q_len * longer
    return replace(
        shape,
        sequences=shape.sequences / longer * more,
        shared_sequences=shape.shared_sequences / longer,
        q_len=new,
        kv_len=shape.kv_len - shape.q_len + new,
    )


def staged_savings(model: ModelSpec, deployment: Deployment) -> float:
    """Weights that a device holds less when the wide maps of queries and keys are cut over the heads of cp ranks."""
    saved = 0.0
    for layer in model.layers:
        a = layer.attention
        if a is not None and a.kind == "mla":
            wide = (a.q_lora_rank or model.hidden) * a.qk_head_dim
            wide += a.kv_lora_rank * (a.qk_nope_head_dim + a.v_head_dim)
            saved += layer.count * a.heads * wide / deployment.tp
    return saved * (1.0 - 1.0 / deployment.cp)


def turn_exposed_s(turns_s: Real, core_s: Real, ranks: int) -> Real:
    """What is exposed of ranks - 1 turns beside attention of `ranks` blocks: (ranks - 1) x max(0, turn - block)."""
    hops = ranks - 1.0
    return hops * np.maximum(turns_s / hops - core_s / ranks, 0.0)
