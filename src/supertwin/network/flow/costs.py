"""What a collective costs besides its bytes on the links: the calibrated constants of the closed form.

The flow level takes the same numbers as network.collective: which algorithm and protocol the library picks for a
message, its fixed cost and rounds of latency, and the share of the line rate that it reaches on each link class. Bytes
divided by that share are the bytes that a flow puts on the line, so that several collectives on one link share the
line rate itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from supertwin.core.errors import InputError, UnknownName
from supertwin.machine.fitted import Parameters, named_folder
from supertwin.machine.system import System
from supertwin.network.algorithms import ALGORITHMS
from supertwin.network.collective import Calibrated, Line, calibrated, for_ranks, lines_of, numbers_at
from supertwin.network.span import Level, rank_levels
from supertwin.network.topology.build import plane_name

HIERARCHICAL = "hierarchical"
HIERARCHICAL_OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")


@dataclass(frozen=True, slots=True)
class Call:
    """One collective. message_bytes as in collectives.csv; algorithm "auto" is the library's choice by size."""

    op: str
    message_bytes: float
    algorithm: str = "auto"
    library: str = "default"
    context: str = "benchmark"


@dataclass(frozen=True, slots=True)
class Costs:
    """algorithm: "direct/large"; latency_s: fixed cost and rounds; own_s: the rank's own part beside the links.

    shares: of the line rate by plane, "" for planes that the group uses only when something is broken; floor_s and
    extra_s as in the closed form.
    """

    algorithm: str
    levels: tuple[Level, ...]
    latency_s: float
    own_s: float
    shares: Mapping[str, float]
    floor_s: float = 0.0
    extra_s: float = 0.0

    def total_s(self, transfer_s: float) -> float:
        """Time of the collective when its bytes need transfer_s on the fabric."""
        return max(self.latency_s + self.own_s + transfer_s, self.floor_s) + self.extra_s


def costs(system: System, call: Call, ranks: npt.NDArray[np.int64]) -> Costs:
    """Constants of one call over the devices `ranks`. Raises UnknownName, InputError."""
    chip, tiers = system.chip, system.tiers
    levels = rank_levels(tiers, ranks)
    if call.op == "p2p" and levels:
        levels = rank_levels(tiers, _far_pair(levels[-1], system, ranks))
    key = (call.op, call.library, call.context, named_folder())
    found = calibrated(chip.name, chip.relative, chip.vendor, key, levels, int(ranks.size))
    if not levels:
        return Costs("none", (), 0.0, 0.0, {})
    line, numbers, used = _pick(call, levels, found)
    bare = {path: {n: {**g, "own_share": 0.0} for n, g in groups.items()} for path, groups in used.items()}
    slopes = {other.algorithm: other.s_per_byte for other in lines_of(levels, call.op, bare)}
    shares = {}
    for level in levels:
        tier = next(tier for tier in tiers if tier.name == level.tier)
        known = numbers_at(used.get(level.path, {}), line.algorithm, numbers)
        at_tier = for_ranks(known, level.outer // level.inner)
        shares[plane_name(tier)] = shares[""] = at_tier["efficiency"]
    name, latency = line.algorithm, line.latency_s
    own = max(0.0, line.s_per_byte - slopes[line.algorithm]) * call.message_bytes
    if call.algorithm == HIERARCHICAL:
        name = f"{HIERARCHICAL}/{name.split('/')[1]}"
        latency = numbers["fixed_s"] + _hierarchical_hops_s(call.op, levels, numbers)
    return Costs(name, levels, latency, own, shares, found.floor_s, found.extra_s)


def _far_pair(last: Level, system: System, ranks: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Two neighbours of a chain that talk through the outermost tier it spans: the slowest link sets the pace."""
    tier = next(i for i, t in enumerate(system.tiers) if t.name == last.tier)
    below = system.tiers[tier - 1].devices if tier else 1
    cut = int(np.flatnonzero(ranks[1:] // below != ranks[:-1] // below)[0])
    return ranks[cut : cut + 2]


def _pick(
    call: Call, levels: tuple[Level, ...], found: Calibrated
) -> tuple[Line, Parameters, Mapping[str, Mapping[str, Parameters]]]:
    """The line that the call takes, its numbers at the outermost tier and the table they come from."""
    used = found.groups
    outermost = used[levels[-1].path]
    if call.algorithm not in ("auto", HIERARCHICAL) and call.algorithm not in ALGORITHMS[call.op]:
        legal = ["auto", *ALGORITHMS[call.op], *([HIERARCHICAL] if call.op in HIERARCHICAL_OPERATIONS else [])]
        raise UnknownName(f"algorithm of {call.op}", call.algorithm, legal)
    if call.algorithm == HIERARCHICAL and call.op not in HIERARCHICAL_OPERATIONS:
        raise UnknownName(f"algorithm of {call.op}", call.algorithm, ["auto", *ALGORITHMS[call.op]])
    if call.algorithm == "nvls" and not all(level.reduction for level in levels):
        raise InputError(f"nvls needs switches that reduce; {levels[-1].tier} has none")
    lines = [line for line in lines_of(levels, call.op, used) if call.message_bytes <= line.up_to_bytes]
    wanted = [line for line in lines if line.algorithm.split("/")[0] == call.algorithm]
    if not wanted and call.algorithm not in ("auto", HIERARCHICAL):
        # never fitted for this library: the constants of its best line, with the rounds and bytes of the algorithm
        like = min(lines, key=lambda line: line.s_per_byte).algorithm
        name = f"{call.algorithm}/{like.split('/')[1]}"
        used = {path: {name: numbers_at(groups, like, outermost[like])} for path, groups in used.items()}
        outermost = used[levels[-1].path]
        wanted = list(lines_of(levels, call.op, used))
    line = min(wanted or lines, key=lambda line: line.latency_s + line.s_per_byte * call.message_bytes)
    return line, outermost[line.algorithm], used


def _hierarchical_hops_s(op: str, levels: tuple[Level, ...], numbers: Parameters) -> float:
    """Rounds of the two tiers: the peers of the block, then the blocks; all_reduce goes in and out again."""
    block = levels[-1].inner
    passes = 2 if op == "all_reduce" else 1
    return numbers["hop_s"] * passes * (block - 1 + -(-levels[-1].outer // block) - 1)
