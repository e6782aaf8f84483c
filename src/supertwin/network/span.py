"""Which tiers of a system a group of ranks spans, and what bandwidth the group sees in each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from supertwin.core.errors import InputError
from supertwin.core.memo import by_identity
from supertwin.machine.system import Tier
from supertwin.network.group import Group

SQUARE_MESH = 16


@dataclass(frozen=True, slots=True)
class Level:
    """One tier as a group uses it.

    inner, outer: ranks of the group in one block below this tier and in one block of this tier (inner < outer).
    bytes_per_s: line rate that one device can use towards the other ranks in this tier, one direction.
    detour: mean hops of a direct exchange (1 except on a torus); round_factor: rounds of a ring relative to outer - 1
    (below 1 on a torus, whose axes are rings of their own).
    """

    tier: str
    path: str
    inner: int
    outer: int
    bytes_per_s: float
    latency_s: float
    reduction: bool = False
    detour: float = 1.0
    round_factor: float = 1.0


def pair_levels(tiers: tuple[Tier, ...], group: Group) -> tuple[Level, ...]:
    """The one level that the farthest neighbours of a group (`stride` apart) talk through, as a pair of ranks."""
    levels = group_levels(tiers, group)
    if not levels:
        return ()
    last = levels[-1]
    position = next(i for i, tier in enumerate(tiers) if tier.name == last.tier)
    below = tiers[position - 1].devices if position else 1
    return (_level(tiers[position], 1, 2, below),)


@by_identity(most=4096)
def group_levels(tiers: tuple[Tier, ...], group: Group) -> tuple[Level, ...]:
    """Tiers that the group spans, innermost first; empty for a group of one.

    Ranks `stride` apart fill blocks of neighbours from the first device on. Every rank injects through its own links,
    so a block with r ranks of the group has r links to the outside; what the other devices of the block do with
    theirs (concurrent groups of the same kind) does not slow this group down.
    Raises InputError when the fabric joins fewer devices than the group spans.
    """
    size, stride = int(group.size), int(group.stride)
    if size < 1 or stride < 1:
        raise InputError(f"group of size {group.size}, stride {group.stride}: expected whole numbers of at least 1")
    if size > 1 and tiers and (size - 1) * stride + 1 > tiers[-1].devices:
        reach = tiers[-1].devices
        raise InputError(f"a group of {size} ranks, {stride} apart, spans more than the {reach} devices joined")
    levels, inner, below = [], 1, 1
    for tier in tiers:
        outer = min(size, max(1, -(-tier.devices // stride)))
        if outer > inner:
            levels.append(_level(tier, inner, outer, below))
            inner = outer
        below = tier.devices
    return tuple(levels)


def rank_levels(tiers: tuple[Tier, ...], ranks: npt.NDArray[np.int64]) -> tuple[Level, ...]:
    """As group_levels, for any device numbers: the fullest block of each tier counts.

    Raises InputError when the fabric does not join all of them.
    """
    if ranks.size > 1 and (not tiers or np.unique(ranks // tiers[-1].devices).size > 1):
        raise InputError(f"devices {ranks.min()} to {ranks.max()} are not joined by any tier of the fabric")
    levels, inner, below = [], 1, 1
    for tier in tiers:
        outer = int(np.unique(ranks // tier.devices, return_counts=True)[1].max(initial=1))
        if outer > inner:
            levels.append(_level(tier, inner, outer, below))
            inner = outer
        below = tier.devices
    return tuple(levels)


def _level(tier: Tier, inner: int, outer: int, below: int) -> Level:
    rate = tier.bandwidth_bytes_per_s / tier.oversubscription
    detour = round_factor = 1.0
    if tier.topology == "mesh":
        rate *= _mesh_share(outer / inner, tier.devices / below)
    elif tier.topology == "ring":
        detour = max(1.0, outer / inner / 4)
    elif tier.topology == "torus":
        every = max(1, tier.links_per_device // 2)
        side = max(2.0, tier.devices ** (1 / every))
        blocks = outer / inner
        axes = next((a for a in range(1, every) if blocks <= side**a * (1 + 1e-9)), every)
        along = blocks ** (1 / axes)
        rate *= axes / every
        detour = max(1.0, axes * along / 4)
        round_factor = axes * (along - 1) / max(1.0, blocks - 1)
    return Level(tier.name, tier.path, inner, outer, rate, tier.latency_s, tier.reduction, detour, round_factor)


def _mesh_share(ranks: float, places: float) -> float:
    """Share of a device's direct links that lead to other ranks of its group.

    Up to SQUARE_MESH places every pair has a link; larger meshes are full along the rows and columns of a square
    (UB-Mesh, arXiv 2503.20377), and a group fills rows first.
    """
    if places <= SQUARE_MESH:
        return min(1.0, (ranks - 1) / max(1.0, places - 1))
    side = float(places**0.5)
    along, across = min(ranks, side), max(1.0, ranks / side)
    return min(1.0, (along - 1 + across - 1) / (2 * (side - 1)))
