"""How one layer is cut over devices, in which number formats it runs, and what one step asks of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from supertwin.core.errors import InputError
from supertwin.workload.operators import Real

PHASES = ("train", "prefill", "decode")
TRANSPORTS = ("dispatch", "all_to_all", "all_gather", "all_reduce")
CONTEXTS = ("ring", "ulysses", "all_gather", "hybrid", "staged")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Parallel sizes and number formats of one stage. Sizes are numbers or arrays; switches are plain values.

    tp: attention and dense matrices; ep x etp: routed experts (etp cuts each expert); cp: sequence.
    Experts live on ep x etp devices; ep x etp / tp attention ranks share them.
    sequence_parallel: activations between blocks are cut over tp (all-gather and reduce-scatter instead of all-reduce).
    linear_dtype, expert_dtype, attention_dtype, head_dtype: what the matrix engine multiplies in; weight_dtype,
    expert_weight_dtype: how weights are stored ("" = as multiplied); kv_dtype: the cache; dispatch_dtype,
    combine_dtype: payload of expert traffic; quantize_input: activations arrive in BF16 and are quantised at run time
    (applies to formats narrower than BF16).
    moe_transport: dispatch (dispatch and combine kernels), all_to_all, all_gather (gather tokens, reduce-scatter
    results) or all_reduce (every rank has all tokens; results are summed over tp).
    context: how cp exchanges keys: ring, ulysses (heads for sequence), all_gather, or hybrid: `ulysses` of the cp ranks
    exchange heads, the groups of them form a ring (arXiv 2405.07719); staged: prompts of latent attention cut over
    tokens, heads and tokens again (latent.py). balanced_context: each rank of a ring has an early and a late chunk
    (zigzag), else the last rank has the work of the longest rows.
    expert_distribution, expert_skew: see ExpertMlp; redundant_experts: further copies, spread over ep;
    fused_experts: routed experts as one ExpertMlp (inference) or as grouped GEMMs (training).
    """

    tp: Real = 1
    ep: Real = 1
    etp: Real = 1
    cp: Real = 1
    sequence_parallel: bool = False
    linear_dtype: str = "bf16"
    expert_dtype: str = "bf16"
    attention_dtype: str = "bf16"
    head_dtype: str = "bf16"
    weight_dtype: str = ""
    expert_weight_dtype: str = ""
    kv_dtype: str = "bf16"
    dispatch_dtype: str = "bf16"
    combine_dtype: str = "bf16"
    quantize_input: bool = True
    moe_transport: str = "dispatch"
    context: str = "ring"
    ulysses: Real = 1
    balanced_context: bool = True
    expert_distribution: str = "balanced"
    expert_skew: Real = 1.0
    redundant_experts: Real = 0
    fused_experts: bool = True

    @property
    def head_ranks(self) -> Real:
        """Context-parallel ranks that share the heads instead of the sequence."""
        return {"ulysses": self.cp, "staged": self.cp, "hybrid": self.ulysses}.get(self.context, 1)

    def __post_init__(self) -> None:
        for name in ("tp", "ep", "etp", "cp"):
            size = getattr(self, name)
            legal = size >= 1 if isinstance(size, (int, float)) else np.all(np.asarray(size) >= 1)
            if not legal:
                raise InputError(f"{name} is {size}, expected at least 1")
        if self.moe_transport not in TRANSPORTS:
            raise InputError(f"moe_transport is {self.moe_transport!r}, expected one of {', '.join(TRANSPORTS)}")
        if self.context not in CONTEXTS:
            raise InputError(f"context is {self.context!r}, expected one of {', '.join(CONTEXTS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one forward pass of one attention rank (a tp group) processes.

    phase: train | prefill | decode; sequences: per attention rank (of one micro-batch); q_len: new tokens of each;
    kv_len: keys each query sequence ends with (cached and new; = q_len without a cache). causal: False for encoders.
    """

    phase: str
    sequences: Real
    q_len: Real
    kv_len: Real
    causal: bool = True

    def __post_init__(self) -> None:
        if self.phase not in PHASES:
            raise InputError(f"phase is {self.phase!r}, expected one of {', '.join(PHASES)}")

    def tokens(self, shard: Shard) -> Real:
        """New tokens per tp group; context parallelism cuts them except in decode, where it cuts the cache."""
        whole = self.sequences * self.q_len
        return whole if self.phase == "decode" else whole / shard.cp


def plain(value: Real) -> Real:
    """An array without dimensions as the number it holds; anything else as it is."""
    return float(value) if isinstance(value, (np.ndarray, np.generic)) and not value.ndim else value


def maximum(a: Real, b: Real) -> Real:
    """np.maximum that keeps plain floats plain."""
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return float(a if a > b else b)
    return plain(np.maximum(a, b))


def minimum(a: Real, b: Real) -> Real:
    """np.minimum that keeps plain floats plain."""
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return float(a if a < b else b)
    return plain(np.minimum(a, b))


def ceiling(a: Real) -> Real:
    """np.ceil that keeps plain floats plain."""
    return plain(np.ceil(a))


def above(a: Real, limit: Real) -> Real:
    """1 where a > limit, else 0."""
    if isinstance(a, np.ndarray) or isinstance(limit, np.ndarray):
        return plain(np.greater(a, limit).astype(np.float64))
    return 1.0 if a > limit else 0.0


def present(size: Real) -> Real:
    """1 where a group has more than one member, 0 where there is nobody to talk to."""
    return above(size, 1)


def mean_keys(q_len: Real, kv_len: Real, limit: Real) -> Real:
    """Mean number of keys that a causal query sees when it may see at most `limit`: mean of min(i, limit) for
    i = kv_len - q_len + 1 .. kv_len."""

    def total(n: Real) -> Real:
        m = minimum(n, limit)
        return m * (m + 1) / 2 + (n - m) * limit

    return (total(kv_len) - total(kv_len - q_len)) / q_len


def chunk_pairs(n: Real, chunk: Real) -> Real:
    """Query-key pairs of n tokens when each sees its own chunk up to itself."""
    rest = n - np.floor_divide(n, chunk) * chunk
    return np.floor_divide(n, chunk) * chunk * (chunk + 1) / 2 + rest * (rest + 1) / 2
