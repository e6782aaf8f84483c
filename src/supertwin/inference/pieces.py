"""Operators of a block with their times: what was priced, and the exchanges, which are timed here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np

from supertwin.cost.result import OperatorCost
from supertwin.inference.context import turn_exposed_s
from supertwin.inference.exchange import Routed, awaited, communication_s
from supertwin.inference.layers import Block
from supertwin.inference.local import AXIS
from supertwin.inference.offload import HOST
from supertwin.inference.piece import Piece, bound_of
from supertwin.inference.placement import Real
from supertwin.inference.plan import Plan
from supertwin.inference.prolog import ABSORBED, JOINED, in_prolog
from supertwin.inference.recipe_kernels import STREAMS
from supertwin.inference.warm import in_super_kernel, prefetched, targets_of
from supertwin.machine.system import System
from supertwin.workload.operators import Attention, Communication, Vector

_CORE, _TURN = "attention core", "cp p2p"
_SCORES, _CHOICE = "attention/index", "attention/topk"
_EXPERTS, _PERMUTE = "moe/experts", "moe/permute"
_REDUCED = {"attention/reduce": "attention/out", "mlp/reduce": "mlp/down"}
_SHARED, _BESIDE_SHARED = "moe/shared", ("moe/router", "moe/dispatch")


def pieces_of(block: Block, plan: Plan, system: System, costs: Iterator[OperatorCost]) -> list[Piece]:
    """Operators of a block with their times; exchanges are timed here, the rest was priced."""
    out = []
    routed = routed_of(block, plan)
    prolog = plan.prolog and any(o.part in ABSORBED for o in block.operators)
    scored = False
    for o in block.operators:
        if isinstance(o, Communication):
            time = communication_s(system, plan.placement, o, routed) * o.count
            spread = awaited(system, plan.placement, o, routed)
            local = o.axis == "cp" or o.axis.startswith(
                (AXIS, HOST)
            )  # lies between two matrices of one path, beside nothing
            part, stage = _exchange_part(o.op, _axis_name(o.axis)), "exchange"
            if local:
                stage = _place(o.part, "Gemm")[1]
            outward = o.part.endswith("dispatch")
            out.append(Piece(part, stage, time, "network", outward=outward, spread=spread))
        else:
            cost = next(costs)
            if prolog and o.part in JOINED:
                cost = in_prolog(o.part, cost)
            part, stage = _place(o.part, type(o).__name__)
            scored = scored or (part == _CORE and o.part.endswith(_SCORES))
            out.append(Piece(part, stage, cost.time_s * o.count, bound_of(cost), cost, o.count))
    if plan.super_kernel and block.layer:  # before anything of a kernel is hidden
        out = in_super_kernel(block.operators, out, block.pair)
    if scored and system.chip.vendor == "huawei":
        out = hidden_sort(block, out)
    if plan.engine.shared_beside and plan.shape.kernels_of == "decode":
        out = indexer_beside(block, shared_beside(block, out))
    if plan.engine.reduces_beside and plan.shape.kernels_of != "decode":
        out = reduces_beside(block, out)
    if plan.engine.permutes_beside and plan.shape.kernels_of == "prefill" and block.microbatches > 1:
        out = permutes_beside(block, out)
    if plan.prefetches and block.layer:
        out = prefetched(block, out, system.chip, targets_of(plan.engine.name), prolog)
    return hidden_turns(out, plan.placement.cp) if plan.ring else out


def hidden_sort(block: Block, pieces: list[Piece]) -> list[Piece]:
    """The indexer's vector cores sort one block of keys while its matrix cores score the next: what outlasts them shows
    (cann-recipes-infer, LongCat-2.0 and DeepSeek-V3.2 guides)."""
    out: list[Piece] = []
    scored: Real = 0.0
    for o, p in zip(block.operators, pieces, strict=True):
        part = o.part.removeprefix("mtp/")
        if part == _SCORES and isinstance(o, Attention) and p.cost is not None:
            scored = (p.cost.time_s - p.cost.overhead_s) * p.count
        elif part == _CHOICE and isinstance(o, Vector) and o.fused:
            p = replace(p, time_s=np.maximum(p.time_s - scored, 0.0))
        out.append(p)
    return out


def shared_beside(block: Block, pieces: list[Piece]) -> list[Piece]:
    """Shared experts on a stream of their own: what gate and dispatch do not hide of them shows (cann-recipes-infer,
    DeepSeek-V3.2, multi-stream: gate and dispatch leave the memory bandwidth idle)."""
    parts = _parts(block)
    own: Real = sum((p.time_s for o, p in zip(parts, pieces, strict=True) if o.startswith(_SHARED)), start=0.0)
    beside: Real = sum((p.time_s for o, p in zip(parts, pieces, strict=True) if o in _BESIDE_SHARED), start=0.0)
    shown = np.maximum(own - beside, 0.0) / np.maximum(own, 1e-15)
    return [
        replace(p, time_s=p.time_s * shown) if o.startswith(_SHARED) else p for o, p in zip(parts, pieces, strict=True)
    ]


def reduces_beside(block: Block, pieces: list[Piece]) -> list[Piece]:
    """All-reduces inside the product before them (TensorRT-LLM's gemm_allreduce_plugin: a tile is reduced when it is
    done): what outlasts the product shows."""
    parts = _parts(block)
    time = {part: p.time_s for part, p in zip(parts, pieces, strict=True) if part in _REDUCED.values()}
    out = []
    for part, p in zip(parts, pieces, strict=True):
        product = time.get(_REDUCED.get(part, ""), 0.0)
        out.append(replace(p, time_s=np.maximum(p.time_s - product, 0.0)) if part in _REDUCED else p)
    return out


def permutes_beside(block: Block, pieces: list[Piece]) -> list[Piece]:
    """Passes that sort tokens for an exchange, or back, as part of it: vector cores do them beside the products of the
    other micro-batch (CM384 paper 4.3.2)."""
    parts = _parts(block)
    there = parts.index(_EXPERTS) if _EXPERTS in parts else len(parts)
    return [
        replace(p, stage="exchange", outward=i < there) if part == _PERMUTE else p
        for i, (part, p) in enumerate(zip(parts, pieces, strict=True))
    ]


def indexer_beside(block: Block, pieces: list[Piece]) -> list[Piece]:
    """Streams of the indexer beside each other: the longest shows, in the proportions of all."""
    parts = _parts(block)
    sums: list[Real] = [
        sum((p.time_s for o, p in zip(parts, pieces, strict=True) if o == stream), start=0.0) for stream in STREAMS
    ]
    longest = np.maximum(np.maximum(sums[0], sums[1]), sums[2])
    shown = longest / np.maximum(sums[0] + sums[1] + sums[2], 1e-15)
    return [replace(p, time_s=p.time_s * shown) if o in STREAMS else p for o, p in zip(parts, pieces, strict=True)]


def _parts(block: Block) -> list[str]:
    """Paths of the operators, those of a draft as in the model's own layers."""
    return [o.part.removeprefix("mtp/") for o in block.operators]


def hidden_turns(pieces: list[Piece], ranks: int) -> list[Piece]:
    """Keys that travel around a ring while attention over the last block runs: what outlasts it is exposed."""
    core: Real = sum((p.time_s for p in pieces if p.part == _CORE), start=0.0)
    return [replace(p, time_s=turn_exposed_s(p.time_s, core, ranks)) if p.part == _TURN else p for p in pieces]


def _axis_name(axis: str) -> str:
    return AXIS if axis.startswith(AXIS) else axis


def routed_of(block: Block, plan: Plan) -> Routed:
    """What dispatch and combine of a block need beside their operator."""
    fused = plan.shape.kernels_of == "decode" and not plan.separate
    return Routed(plan.experts, plan.engine.routes_in_passes or plan.separate, block.skew, fused)


@lru_cache(maxsize=256)
def _exchange_part(op: str, axis: str) -> str:
    return "dispatch and combine" if op in ("dispatch", "combine") else f"{axis} {op}".replace("_", "-")


@lru_cache(maxsize=1024)
def _place(path: str, kind: str) -> tuple[str, str]:
    """Part in the breakdown and stage of an operator, from its path and the name of its class."""
    early = path.startswith(("attention", "norm", "embedding", "head"))
    return _part(path.split("/")[0], kind), "attention" if early else "experts"


def _part(head: str, kind: str) -> str:
    if kind == "Attention":
        return _CORE
    if kind == "Vector":
        return f"{head} vector work"
    return {"attention": "attention projections"}.get(head, head)
