"""Dispatch and combine of MoE tokens between expert-parallel ranks, in closed form.

    time = (fixed^p + data^p)^(1/p),   data = max(bytes_inside / rate_inside, bytes_outside / rate_outside)

Which bytes move depends on the mode:
- normal: a token travels once to every rank (inside a block of the fast links) or block (outside) that holds at least
  one of its experts. Of n ranks, top-k independent choices reach n (1 - (1 - 1/n)^k) of them (DeepEP normal kernels:
  RDMA once per node, then NVLink to the ranks).
- low-latency: every (token, expert) copy travels on its own, straight to its rank.
- fused: every copy on its own, with a cost per copy for the vector cores that count, write, collect or sum it (CANN
  fused dispatch and combine over UB, CloudMatrix384 paper section 4.2.1; MoeDistributeDispatch sends BS x K rows).
  Where constants say `distinct`, a token travels once to every rank as in normal mode.
Kernels that wait for all ranks take wait_s e(n) longer in a benchmark, e(n) the expected maximum of n normal draws:
ranks arrive apart. A caller that knows when they arrive sets `together` and adds its own wait.
The inside rate is the smallest of the link share, what the communication cores move (sms x bytes per core) and what the
receiving experts' cores take. Constants per library, mode and operation are fitted (network.links, exchange/...).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log2

import numpy as np

from supertwin.core.errors import InputError, UnknownName
from supertwin.core.formats import number_format
from supertwin.machine.fitted import Parameters, named_folder
from supertwin.machine.system import System
from supertwin.network.collective import ANY, CONTEXTS, CollectiveTime, Real
from supertwin.network.group import Group
from supertwin.network.links import load_links_by_name
from supertwin.network.span import Level, group_levels
from supertwin.workload.balance import expected_maximum

MODES = ("auto", "normal", "low-latency")
OPERATIONS = ("dispatch", "combine", "prepare")
VENDOR_LIBRARY = {"nvidia": "deepep", "huawei": "cann", "amd": "deepep"}
OUTSIDE = ("ib", "roce", "efa", "tcp")  # link classes that leave the fast domain
# assumption: engines take the low-latency kernels up to this many tokens per rank (DeepEP's own buffer default is 128;
# serving frameworks keep them for decode batches of a few hundred)
LOW_LATENCY_TOKENS = 512
# a kernel that was never measured between nodes: as the DeepEP low-latency kernels on H100 and H200, rounded
OUTER_EFFICIENCY, OUTER_FIXED_S, OUTER_HOP_S = 0.9, 1e-5, 3e-6
FP8_SCALE_BLOCK = 128  # one FP32 scale per 128 elements travels with an FP8 token
INT8_TRAILER_BYTES = 512  # scale and routing word of an INT8 token (CloudMatrix384 paper: 7 KB + 512 B)


def token_bytes(hidden: Real, dtype: str) -> Real:
    """Bytes of one token on the wire, with the scales that travel with it. Raises UnknownName."""
    if dtype == "fp8":
        return hidden * (1.0 + 4.0 / FP8_SCALE_BLOCK)
    if dtype == "int8":
        return hidden + INT8_TRAILER_BYTES
    return hidden * number_format(dtype).bytes_per_element


def distinct_places(places: float, topk: Real) -> Real:
    """Expected number of different places that top-k independent uniform choices reach."""
    return places * (1.0 - (1.0 - 1.0 / places) ** topk)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One dispatch or combine. tokens_per_rank, hidden and topk may be arrays.

    experts: routed experts over all ranks (0 = as many as ranks); sms: cores given to communication (0 = library
    default); block_limit: most blocks (nodes) that a token's experts may lie in (0 = no limit); together: all ranks
    arrive at once, without the wait that a benchmark contains.
    """

    op: str
    tokens_per_rank: Real
    hidden: Real
    topk: Real
    dtype: str
    mode: str = "auto"
    experts: Real = 0.0
    sms: float = 0.0
    block_limit: float = 0.0
    together: bool = False


def exchange_time(  # noqa: PLR0913 - the fixed signature of the network layer
    system: System,
    op: str,
    tokens_per_rank: Real,
    hidden: Real,
    topk: Real,
    group: Group,
    *,
    dtype: str = "",
    mode: str = "auto",
    experts: Real = 0.0,
    library: str = "default",
    context: str = "benchmark",
    sms: float = 0.0,
    block_limit: float = 0.0,
) -> CollectiveTime:
    """Time of one dispatch or combine over an expert-parallel group.

    context is checked and has no effect: no production offset has been measured for these kernels.
    dtype: payload format ("" = fp8 on NVIDIA and AMD, int8 on Ascend for dispatch; bf16 for combine).
    mode: normal, low-latency or auto (by tokens per rank). Raises UnknownName, InputError.
    """
    if context not in CONTEXTS:
        raise UnknownName("context", context, CONTEXTS)
    if not dtype:
        dtype = "bf16" if op != "dispatch" else ("int8" if system.chip.vendor == "huawei" else "fp8")
    call = Exchange(op, tokens_per_rank, hidden, topk, dtype, mode, experts, sms, block_limit)
    return price_exchange(system, call, group, library)


def price_exchange(system: System, call: Exchange, group: Group, library: str = "default") -> CollectiveTime:
    """As exchange_time, for a call with all its options."""
    if call.mode not in MODES:
        raise UnknownName("exchange mode", call.mode, MODES)
    if call.op not in OPERATIONS:
        raise UnknownName("exchange operation", call.op, OPERATIONS)
    chip = system.chip
    own = VENDOR_LIBRARY.get(chip.vendor, "deepep")
    levels = group_levels(system.tiers, group)
    if not levels:
        zero = np.zeros(np.broadcast_shapes(*(np.shape(v) for v in (call.tokens_per_rank, call.hidden, call.topk))))
        nothing: Real = zero if zero.shape else 0.0
        return CollectiveTime(nothing, nothing, nothing, "none", "none")
    if call.mode != "auto":
        found = _constants(chip.name, chip.relative, (own, library, named_folder()), call.mode, call.op)
        return evaluate_exchange(found, levels, call, call.mode)
    modes = ("normal", "low-latency")
    normal, fast = (
        evaluate_exchange(
            _constants(chip.name, chip.relative, (own, library, named_folder()), m, call.op), levels, call, m
        )
        for m in modes
    )
    if isinstance(call.tokens_per_rank, (int, float)):
        return fast if call.tokens_per_rank <= LOW_LATENCY_TOKENS else normal
    few = np.asarray(call.tokens_per_rank) <= LOW_LATENCY_TOKENS
    pick = [np.where(few, f, n) for f, n in ((fast.time_s, normal.time_s), (fast.latency_s, normal.latency_s))]
    name = np.where(few, np.asarray(fast.algorithm), np.asarray(normal.algorithm))
    return CollectiveTime(pick[0], pick[1], pick[0] - pick[1], name, levels[-1].tier)


@lru_cache(maxsize=256)
def _constants(chip: str, relative: str, libraries: tuple[str, str, str], mode: str, op: str) -> Parameters:
    own, wanted, _folder = libraries
    links = load_links_by_name(chip, relative)
    if wanted != "default" and wanted not in (legal := {own, ANY, *links.names("exchange", 0)}):
        raise UnknownName("exchange library", wanted, legal)
    for library in ([own] if wanted == "default" else [wanted, own]) + [ANY]:
        for kind in (mode, "fused"):
            found = links.group(f"exchange/{library}/{kind}/{op}")
            if found is not None:
                return found
    raise InputError(f"no {op} kernel is known for {chip!r} in mode {mode!r}")


@dataclass(frozen=True, slots=True)
class Volumes:
    """What one rank moves and at what cost.

    inside_bytes, outside_bytes: to other ranks of its block and to other blocks; ..._s_per_byte: at the calibrated
    rates; beside_s: issuing messages, before or after the bytes inside; fixed_s and sharpness as in the module formula.
    """

    inside_bytes: Real
    outside_bytes: Real
    inside_s_per_byte: Real
    outside_s_per_byte: Real
    beside_s: Real
    fixed_s: Real
    sharpness: float

    def data_s(self) -> Real:
        """The slower of the two when nothing else uses the links."""
        inside = self.inside_bytes * self.inside_s_per_byte + self.beside_s
        slower: Real = np.maximum(inside, self.outside_bytes * self.outside_s_per_byte)
        return slower

    def total_s(self, data_s: Real) -> Real:
        """Fixed cost and data together."""
        total: Real = (self.fixed_s**self.sharpness + data_s**self.sharpness) ** (1.0 / self.sharpness)
        return total


def spread_rate(inside: Sequence[Level]) -> float:
    """Line rate of bytes spread evenly over the other ranks of a block, bytes/s.

    Each level carries the share of the ranks that it reaches first; levels of one link class use the same links of a
    device, levels of different classes work at once. The busiest class sets the rate.
    """
    seconds: dict[str, float] = {}
    for level in inside:
        seconds[level.path] = seconds.get(level.path, 0.0) + (level.outer - level.inner) / level.bytes_per_s
    return (inside[-1].outer - 1) / max(seconds.values())


def volumes(found: Mapping[str, float], levels: tuple[Level, ...], call: Exchange, mode: str) -> Volumes:
    """Bytes and costs of a call for given constants."""
    inside = [level for level in levels if level.path not in OUTSIDE]
    block = inside[-1].outer if inside else 1
    n = levels[-1].outer
    blocks = n / block
    tokens = call.tokens_per_rank
    unit = 0.0 if call.op == "prepare" else token_bytes(call.hidden, call.dtype)
    experts = np.maximum(call.experts, n)
    by_copy = is_by_copy(found, mode)
    inner_rate = spread_rate(inside) if inside else levels[0].bytes_per_s
    s_per_byte: Real = 1.0 / (found["efficiency"] * inner_rate)
    if "sm_bytes_per_s" in found:
        s_per_byte = max(s_per_byte, 1.0 / (found["sm_bytes_per_s"] * (call.sms or found["sms"])))
    if found.get("rdma_only"):
        copies_in, copies_out = 0.0 * call.topk, call.topk
    elif by_copy:
        own = 1.0 / n if found.get("fused") else 0.0  # rows for the rank itself do not leave it
        copies_in, copies_out = call.topk * (1.0 / blocks - own), call.topk * (1.0 - 1.0 / blocks)
        if "expert_bytes_per_s" in found:
            s_per_byte = np.maximum(s_per_byte, 1.0 / (found["expert_bytes_per_s"] * experts))
    else:
        reach = min(blocks, call.block_limit or blocks)
        # the DeepEP V2 kernels let the network write to the final rank: no forwarding inside the node
        copies_in = distinct_places(n, call.topk) / (blocks if found.get("unforwarded") else 1.0)
        copies_out = distinct_places(reach, call.topk) * (1.0 - 1.0 / blocks)
    messages = call.topk if by_copy else copies_in
    beside = tokens * (messages * found.get("message_s", 0.0) + found.get("token_s", 0.0))
    outside: Real = 0.0 * tokens
    outer_s_per_byte: Real = 0.0
    fixed = found["fixed_s"] + found.get("expert_s", 0.0) * experts + found.get("rank_s", 0.0) * n
    if not call.together:
        fixed = fixed + found.get("wait_s", 0.0) * expected_maximum(round(n))
    if blocks > 1 or found.get("rdma_only"):
        outer_rate = found.get("rdma_bytes_per_s", levels[-1].bytes_per_s)
        outer_rate = outer_rate * found.get("outer_efficiency", OUTER_EFFICIENCY)
        crowd = 1.0 + found.get("outer_crowding", 0.0) * np.maximum(copies_out - 3.0, 0.0) * (not by_copy)
        outside, outer_s_per_byte = tokens * copies_out * unit * crowd, 1.0 / outer_rate
        fixed = fixed + found.get("outer_fixed_s", OUTER_FIXED_S)
        fixed = fixed + found.get("outer_hop_s", OUTER_HOP_S) * log2(max(blocks, 1))
    inner_bytes, p = tokens * copies_in * unit, found.get("sharpness", 1.0)
    return Volumes(inner_bytes, outside, s_per_byte, outer_s_per_byte, beside, fixed, p)


def evaluate_exchange(
    found: Mapping[str, float], levels: tuple[Level, ...], call: Exchange, mode: str
) -> CollectiveTime:
    """The formula of the module for given constants."""
    moved = volumes(found, levels, call, mode)
    data = moved.data_s()
    time = moved.total_s(data)
    if isinstance(time, np.floating):
        time, data = float(time), float(data)
    kind = "fused" if found.get("fused") else mode
    return CollectiveTime(time, time - data, data, kind, levels[-1].tier)


def is_by_copy(found: Mapping[str, float], mode: str) -> bool:
    """Whether every (token, expert) copy travels on its own."""
    return not found.get("distinct") if found.get("fused") else mode == "low-latency"


def mode_of(call: Exchange) -> str:
    """The mode that `auto` takes, by tokens per rank (a number)."""
    if call.mode != "auto":
        return call.mode
    return "low-latency" if float(np.max(call.tokens_per_rank)) <= LOW_LATENCY_TOKENS else "normal"


def constants(system: System, call: Exchange, mode: str, library: str = "default") -> Parameters:
    """Fitted constants of a call in one mode. Raises UnknownName, InputError."""
    chip = system.chip
    own = VENDOR_LIBRARY.get(chip.vendor, "deepep")
    return _constants(chip.name, chip.relative, (own, library, named_folder()), mode, call.op)
