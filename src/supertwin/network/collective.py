"""How long a collective takes, in closed form.

For a fixed group every algorithm and protocol of the library is a straight line in the message size S,

    t(S) = fixed + sum over tiers of rounds x hop + S x wire / (efficiency x bandwidth)

valid up to a size where the library switches; the library takes the fastest line that is allowed. The wire time is that
of the slowest tier (network.algorithms and network.span say what each tier carries). fixed, hop and efficiency are
fitted per library, link class and operation (network.links); bandwidth and topology come from the catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import numpy.typing as npt

from supertwin.core.errors import UnknownName
from supertwin.core.memo import by_identity
from supertwin.machine.fitted import Parameters, named_folder
from supertwin.machine.system import System, Tier
from supertwin.network.algorithms import ALGORITHMS, OPERATIONS, Algorithm, tree_depth
from supertwin.network.group import Group
from supertwin.network.links import LinkTable, load_links_by_name
from supertwin.network.span import Level, group_levels, pair_levels

Real = float | npt.NDArray[np.float64]
CONTEXTS = ("benchmark", "production")
VENDOR_LIBRARY = {"nvidia": "nccl", "huawei": "hccl", "amd": "rccl", "google": "xla"}
LOGARITHMIC = ("tree", "halving-doubling", "recursive")  # rounds grow with log2 of the ranks, tier by tier
# what serving engines call inside a captured graph: their own kernels where the chip has them, else the vendor's
INFERENCE, INFERENCE_KERNELS = "inference", ("trtllm", "vllm-graph", "hccl-aiv")
ANY = "any"  # library of the generic priors


@dataclass(frozen=True, slots=True)
class CollectiveTime:
    """time_s = latency_s + bandwidth_s, except where a floor of the library (host launch) is higher than both.

    All fields broadcast to the shape of the message sizes. algorithm: "<algorithm>/<protocol>" that the library picks
    ("none" for a group of one); tier: the outermost tier that the group spans.
    """

    time_s: Real
    latency_s: Real
    bandwidth_s: Real
    algorithm: str | npt.NDArray[np.object_]
    tier: str


@dataclass(frozen=True, slots=True)
class Line:
    """One algorithm and protocol for a fixed group: latency_s + bytes x s_per_byte, for messages up to up_to_bytes."""

    algorithm: str
    latency_s: float
    s_per_byte: float
    up_to_bytes: float = inf


@dataclass(frozen=True, slots=True)
class Plan:
    """All lines that the library may take for a group, with the floor below which no call gets."""

    lines: tuple[Line, ...]
    tier: str
    floor_s: float = 0.0
    extra_s: float = 0.0


def collective_time(
    system: System,
    op: str,
    message_bytes: Real,
    group: Group,
    *,
    library: str = "default",
    context: str = "benchmark",
) -> CollectiveTime:
    """Time of one collective of `group` on `system`.

    op: all_reduce, all_gather, reduce_scatter, all_to_all, broadcast or p2p; message_bytes as in collectives.csv
    (float or array). library: nccl, hccl, rccl, xla, or a custom all-reduce (vllm-graph, sglang-graph, trtllm ...);
    inference: the kernels of serving engines; default: the vendor's. context: benchmark (a loop of bare calls) or
    production (inside an engine or a training step, where each call costs a fixed time more).
    Raises UnknownName, InputError.
    """
    if context not in CONTEXTS:
        raise UnknownName("context", context, CONTEXTS)
    chip = system.chip
    plan = _plan(system.tiers, chip.name, chip.relative, chip.vendor, (op, library, context, named_folder()), group)
    return evaluate(plan, message_bytes)


def evaluate(plan: Plan, message_bytes: Real) -> CollectiveTime:
    """The fastest allowed line at each message size."""
    if isinstance(message_bytes, (int, float)):
        return _evaluate_scalar(plan, float(message_bytes))
    size = np.asarray(message_bytes, dtype=np.float64)
    if not plan.lines:
        zero = np.zeros(size.shape)
        return CollectiveTime(zero, zero, zero, "none", plan.tier)
    best = np.full(size.shape, inf)
    which = np.zeros(size.shape, dtype=np.int8)
    for index, line in enumerate(plan.lines):
        time = size * line.s_per_byte
        time += line.latency_s
        better = time < best
        if line.up_to_bytes < inf:
            better &= size <= line.up_to_bytes
        np.copyto(best, time, where=better)
        np.copyto(which, index, where=better)
    bandwidth = np.array([line.s_per_byte for line in plan.lines])[which] * size
    total = np.maximum(best, plan.floor_s) + plan.extra_s
    names = np.array([line.algorithm for line in plan.lines], dtype=object)[which]
    return CollectiveTime(total, total - bandwidth, bandwidth, names, plan.tier)


def _evaluate_scalar(plan: Plan, size: float) -> CollectiveTime:
    best, chosen = inf, None
    for line in plan.lines:
        time = line.latency_s + line.s_per_byte * size
        if time < best and size <= line.up_to_bytes:
            best, chosen = time, line
    if chosen is None:
        return CollectiveTime(0.0, 0.0, 0.0, "none", plan.tier)
    bandwidth = chosen.s_per_byte * size
    latency = max(best, plan.floor_s) - bandwidth + plan.extra_s
    return CollectiveTime(latency + bandwidth, latency, bandwidth, chosen.algorithm, plan.tier)


@by_identity(most=4096)
def _plan(
    tiers: tuple[Tier, ...], chip: str, relative: str, vendor: str, call: tuple[str, str, str, str], group: Group
) -> Plan:
    op = call[0]
    levels = pair_levels(tiers, group) if op == "p2p" else group_levels(tiers, group)
    found = calibrated(chip, relative, vendor, call, levels, group.size)
    if not levels:
        return Plan((), "none")
    return Plan(lines_of(levels, op, found.groups), levels[-1].tier, found.floor_s, found.extra_s)


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Constants of one operation over given levels: link class -> "algorithm/protocol" -> fitted numbers."""

    groups: Mapping[str, Mapping[str, Parameters]]
    floor_s: float = 0.0
    extra_s: float = 0.0


def calibrated(
    chip: str, relative: str, vendor: str, call: tuple[str, str, str, str], levels: Sequence[Level], size: int
) -> Calibrated:
    """What is fitted for a call (operation, library, context, named folder) of `size` ranks. Raises UnknownName."""
    op, library, context, _folder = call
    if op not in OPERATIONS:
        raise UnknownName("collective operation", op, OPERATIONS)
    links = load_links_by_name(chip, relative)
    own = VENDOR_LIBRARY.get(vendor, "nccl")
    if library != "default":
        legal = {own, ANY, INFERENCE, *links.names("collective", 0), *links.names("floor", 0)}
        if library not in legal:
            raise UnknownName("communication library", library, legal)
    first = {"default": (), INFERENCE: INFERENCE_KERNELS}.get(library, (library,))
    wanted = (*first, own, ANY)
    if not levels:
        return Calibrated({})
    groups = {level.path: _groups(links, wanted, level.path, op) for level in levels}
    floor = next((f for name in wanted if (f := links.group(f"floor/{name}/{levels[-1].path}/{op}"))), {})
    extra = production_extra_s(links, wanted, op, size) if context == "production" else 0.0
    return Calibrated(groups, floor.get("floor_s", 0.0), floor.get("extra_s", 0.0) + extra)


def _groups(links: LinkTable, libraries: Sequence[str], path: str, op: str) -> Mapping[str, Parameters]:
    for library in libraries:
        found = links.find(f"collective/{library}/{path}/{op}")
        if found:
            return found
    return {}


def production_extra_s(links: LinkTable, libraries: Sequence[str], op: str, size: int) -> float:
    """Fixed time that a call inside an engine costs beyond a bare one: measured at 8 and 16 ranks, linear between."""
    found = next((g for name in libraries if (g := links.group(f"production/{name}/{op}"))), None)
    if found is None:
        return 0.0
    return float(np.interp(size, (8.0, 16.0), (found["extra_8_s"], found["extra_16_s"])))


def lines_of(levels: Sequence[Level], op: str, groups: Mapping[str, Mapping[str, Parameters]]) -> tuple[Line, ...]:
    """One line per algorithm and protocol of the outermost tier.

    groups: link class -> "algorithm/protocol" -> fitted numbers. Inner tiers use their own numbers for the same
    protocol (ll, ll128, simple ...), else those of their most efficient one, else those of the outermost tier.
    """
    outermost = groups[levels[-1].path]
    lines = []
    for name, numbers in outermost.items():
        algorithm = ALGORITHMS[op][name.split("/")[0]]
        if name.startswith("nvls") and not all(level.reduction for level in levels):
            continue
        known = [numbers_at(groups.get(level.path, {}), name, numbers) for level in levels]
        per_level = [for_ranks(n, level.outer // level.inner) for n, level in zip(known, levels, strict=True)]
        latency = numbers["fixed_s"] + _hops_s(levels, per_level, algorithm, name)
        own_share = 0.0 if name.startswith("nvls") else numbers.get("own_share", 0.0)
        slope = _seconds_per_byte(levels, per_level, algorithm, own_share)
        limit = numbers.get("up_to_bytes", inf)
        limit = numbers.get("up_to_bytes_per_rank", inf) * levels[-1].outer if limit == inf else limit
        lines.append(Line(name, latency, slope, limit))
    return tuple(lines)


def for_ranks(numbers: Parameters, ranks: int) -> Parameters:
    """Numbers of a mesh on which n ranks use n - 1 links of their own: a rate that the device sets, known with `links`
    of them in use, is a larger share of fewer links, up to `most`."""
    if "links" not in numbers:
        return numbers
    share = numbers["efficiency"] * numbers["links"] / max(ranks - 1, 1)
    return {**numbers, "efficiency": min(share, numbers["most"])}


def numbers_at(groups: Mapping[str, Parameters], name: str, outermost: Parameters) -> Parameters:
    """Numbers of an algorithm and protocol at an inner link class (see lines_of)."""
    if not groups or name in groups:
        return groups.get(name, outermost)
    same = [g for n, g in groups.items() if n.split("/")[1] == name.split("/")[1] and not n.startswith("nvls")]
    return max(same or list(groups.values()), key=lambda g: g["efficiency"])


def _hops_s(levels: Sequence[Level], numbers: Sequence[Parameters], algorithm: Algorithm, name: str) -> float:
    n = levels[-1].outer
    total = algorithm.rounds(n)
    passes = total / (n - 1) if algorithm.flow != "once" else 1.0
    seconds = 0.0
    for index, (level, found) in enumerate(zip(levels, numbers, strict=True)):
        if name.startswith(LOGARITHMIC):
            twice = total / tree_depth(n)
            seconds += found["hop_s"] * twice * tree_depth(-(-level.outer // level.inner))
        elif algorithm.flow == "direct":
            seconds += found["hop_s"] * passes * (level.outer - level.inner)
        else:
            last = index == len(levels) - 1
            crossings = n / level.inner - (0 if last else n / level.outer)
            seconds += found["hop_s"] * total * crossings / n * level.round_factor
    return seconds


def _seconds_per_byte(
    levels: Sequence[Level], numbers: Sequence[Parameters], algorithm: Algorithm, own_share: float
) -> float:
    n = levels[-1].outer
    wire = algorithm.wire(n) + own_share / n
    by_path: dict[str, float] = {}
    for level, found in zip(levels, numbers, strict=True):
        rate = found["efficiency"] * level.bytes_per_s
        if algorithm.flow == "direct":
            seconds = wire * level.detour * (level.outer - level.inner) / (n - 1) / rate
            by_path[level.path] = by_path.get(level.path, 0.0) + seconds
        else:
            streams = level.inner if algorithm.flow == "ring" else 1
            by_path[level.path] = max(by_path.get(level.path, 0.0), wire / streams / rate)
    return max(by_path.values())


def collective_seconds(
    system: System,
    op: str,
    message_bytes: Real,
    sizes: npt.ArrayLike,
    strides: npt.ArrayLike = 1,
    library: str = "default",
) -> npt.NDArray[np.float64]:
    """Seconds of many groups at once: message_bytes, sizes and strides broadcast (a sweep over layouts).

    Equal groups are planned once. A production context is taken: sweeps are about layouts of a job.
    """
    size, ranks, apart = np.broadcast_arrays(np.asarray(message_bytes, dtype=np.float64), sizes, strides)
    given = size.ravel()
    out = np.empty(given.shape)
    keys = ranks.ravel().astype(np.int64) << 32 | apart.ravel().astype(np.int64)
    for key in np.unique(keys):
        group = Group(int(key >> 32), int(key & 0xFFFFFFFF))
        mine = keys == key
        out[mine] = collective_time(system, op, given[mine], group, library=library, context="production").time_s
    return out.reshape(size.shape)
