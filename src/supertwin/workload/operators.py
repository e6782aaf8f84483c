"""Operators with shapes: what one device executes. Nothing here knows a machine.

Every numeric field is a float or a numpy array (a sweep); arrays of one operator broadcast against each other and
against those of all other operators of the same list. Sizes are those of ONE device, after sharding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Real = float | int | npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Base. part: slash path for breakdowns ("attention/qkv"); count: executions per step on this device."""

    part: str
    count: Real = 1.0


Kind = TypeVar("Kind", bound=Operator)
_Access = tuple[Callable[[Any], tuple[Any, ...]], dict[str, Callable[[Any, Any], None]]]


_known: dict[type, _Access] = {}


def _access(kind: type[Operator]) -> _Access:
    """Reader of all fields of a class, and the writer of each slot, which `frozen` does not guard."""
    names = [field.name for field in fields(kind)]
    return attrgetter(*names), {name: getattr(kind, name).__set__ for name in names}


def changed(operator: Kind, **values: object) -> Kind:
    """A copy with other values of some fields (dataclasses.replace, at a third of its time)."""
    kind = type(operator)
    if kind not in _known:
        _known[kind] = _access(kind)
    read, writers = _known[kind]
    copy: Kind = object.__new__(kind)
    for write, value in zip(writers.values(), read(operator), strict=True):
        write(copy, value)
    for name, value in values.items():
        writers[name](copy, value)
    return copy


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemm(Operator):
    """C[m,n] = A[m,k] B[k,n]; `groups` equal products in one launch (batched or grouped by expert; m is per group).

    dtype: format that the matrix engine multiplies in; weight_dtype: format B is stored in ("" = dtype);
    weight-only quantisation is dtype bf16 with weight_dtype int4. quantize_input: A arrives in BF16 and is quantised
    at run time by a separate pass (its cost is added). direction: fwd, dgrad or wgrad.
    """

    m: Real
    n: Real
    k: Real
    groups: Real = 1.0
    dtype: str = "bf16"
    weight_dtype: str = ""
    out_dtype: str = "bf16"
    quantize_input: bool = False
    direction: str = "fwd"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertMlp(Operator):
    """Local experts of a MoE layer on one device, as one fused call: permute, up (and gate), activation, down, combine.

    rows: token-expert pairs that this device computes (mean over devices, padding not counted);
    experts: experts held here; inter: intermediate size per expert here (after expert tensor parallelism);
    skew: rows of the busiest device over the mean (>= 1), already due to routing;
    distribution: how rows spread over the local experts: balanced | uniform | power_law_<alpha>;
    routing: router, sort and permutation are part of the call (fused-moe) or not (after a dispatch);
    tokens: tokens that the call sees (more than rows / topk when experts are spread over devices that all see every
    token); 0 = one token per row.
    """

    rows: Real
    experts: Real
    hidden: Real
    inter: Real
    gated: bool = True
    dtype: str = "bf16"
    weight_dtype: str = ""
    skew: Real = 1.0
    distribution: str = "balanced"
    routing: bool = True
    tokens: Real = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention(Operator):
    """Scaled-dot-product attention of `batch` sequences.

    q_len new tokens per sequence attend to kv_len keys (cached + new); causal masks the upper triangle of the last
    q_len x q_len block; window > 0 limits each query to that many keys. heads, kv_heads: on this device.
    phase: prefill (many queries) or decode (few queries against a long cache); training uses prefill.
    latent: keys and values are the same stored vector (absorbed MLA, 576/512, kv_heads = 1).
    gathered: keys are picked by index (sparse attention); kv_len is then the number of picked keys.
    direction: fwd or bwd.
    """

    batch: Real
    q_len: Real
    kv_len: Real
    heads: Real
    kv_heads: Real
    qk_head_dim: Real
    v_head_dim: Real
    causal: bool = True
    window: Real = 0.0
    phase: str = "prefill"
    dtype: str = "bf16"
    kv_dtype: str = "bf16"
    latent: bool = False
    gathered: bool = False
    direction: str = "fwd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector(Operator):
    """Work of the vector units: norm, rope, activation, add, embedding, softmax, quantize, permute, loss, optimizer,
    copy, scan (linear-attention recurrence), conv, router, topk (choice of keys), sampling.

    bytes_read, bytes_written: memory traffic when not fused; flop: arithmetic (vector rate);
    fused: runs in the epilogue or prologue of its neighbour: no launch of its own.
    rows: independent rows (tokens) where one core works on one row; 0 = not said, spread evenly.
    tokens: rows that share the work out, so that fewer than cores start fewer of them; 0 = not said, all cores start.
    """

    op: str
    bytes_read: Real
    bytes_written: Real
    flop: Real = 0.0
    fused: bool = False
    rows: Real = 0.0
    tokens: Real = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Communication(Operator):
    """Bytes between devices along a parallel axis (tp, cp, ep, etp, pp, dp, edp = replicas of experts, world).

    op: all_reduce, all_gather, reduce_scatter, all_to_all, p2p, broadcast, dispatch, combine.
    message_bytes follows collectives.csv: all_reduce and all_to_all: bytes per rank; all_gather and reduce_scatter:
    the whole gathered buffer; p2p and broadcast: the block.
    dispatch and combine: tokens per rank, hidden, topk and dtype of the payload; message_bytes = tokens x topk x hidden
    x bytes (what leaves a rank when every copy is sent).
    overlap: 0..1, the share that the schedule can hide behind compute (decided by the step model, not here).
    """

    op: str
    axis: str
    message_bytes: Real
    tokens: Real = 0.0
    hidden: Real = 0.0
    topk: Real = 0.0
    dtype: str = "bf16"
