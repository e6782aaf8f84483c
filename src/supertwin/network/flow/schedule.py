"""Collectives as phases of flows between devices.

Notation as in network.algorithms: n ranks, S message bytes. A phase is what runs at the same time; the next one begins
when the one before has ended. Bytes are payload.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from supertwin.core.errors import InputError
from supertwin.machine.system import System, Tier
from supertwin.network.algorithms import ALGORITHMS
from supertwin.network.flow.costs import Costs
from supertwin.network.topology.direct import torus_sides
from supertwin.network.topology.patterns import Pattern

Ints = npt.NDArray[np.int64]
Phase = tuple[Pattern, ...]


@dataclass(frozen=True, slots=True)
class Wire:
    """Groups of equal size on a system. ranks: device numbers in the order of the ranks, [groups, n]."""

    system: System
    costs: Costs
    ranks: Ints

    @property
    def size(self) -> int:
        """Ranks of one group."""
        return int(self.ranks.shape[1])

    def pairs(self, name: str, source: Ints, target: Ints, payload: float) -> Pattern:
        """Listed flows; pairs of a device with itself are dropped."""
        source, target = np.ravel(source), np.ravel(target)
        keep = source != target
        return Pattern(name, payload, source=source[keep], target=target[keep])

    def everyone(self, name: str, payload: float, ranks: Ints | None = None) -> Phase:
        """All pairs of each group; nothing for groups of one."""
        groups = self.ranks if ranks is None else ranks
        return (Pattern(name, payload, tuple(groups)),) if groups.shape[1] > 1 else ()

    def nested(self) -> list[tuple[int, Ints]] | None:
        """Per level, outermost last: (tier index, ranks as [blocks of the tier, blocks below, ranks below]).

        None when blocks hold different numbers of ranks.
        """
        found, below = [], 1
        for level in self.costs.levels:
            index, tier = next((i, t) for i, t in enumerate(self.system.tiers) if t.name == level.tier)
            if self.size % level.outer or level.outer % level.inner:
                return None
            shaped = self.ranks.reshape(-1, level.outer // level.inner, level.inner)
            same = shaped // tier.devices == shaped[:, :1, :1] // tier.devices
            lower = shaped // below == shaped[:, :, :1] // below
            if not (same.all() and lower.all()):
                return None
            found.append((index, shaped))
            below = tier.devices
        return found


def phases(op: str, algorithm: str, message_bytes: float, wire: Wire) -> tuple[Phase, ...]:
    """The schedule of one collective. Raises InputError when the groups do not fit the algorithm."""
    if wire.size < 2:
        return ()
    return SCHEDULES[algorithm](op, message_bytes, wire)


def _direct(op: str, size: float, wire: Wire) -> tuple[Phase, ...]:
    if op == "p2p":
        return ((wire.pairs("p2p", wire.ranks[:, :-1], wire.ranks[:, 1:], size),),)
    part = size / wire.size
    if op == "all_reduce":
        scatter = wire.everyone("reduce-scatter", part)
        return scatter, tuple(replace(pattern, name="all-gather") for pattern in scatter)
    return (wire.everyone(op, part),)


def _nvls(_op: str, size: float, wire: Wire) -> tuple[Phase, ...]:
    """Reduction in the switches: each device sends its S to be reduced and S/n to be multicast, and receives as much.

    On links between devices and switches that is the load of an exchange with all peers.
    """
    return (wire.everyone("nvls", size * (1 + 1 / wire.size) / (wire.size - 1)),)


def _one_shot(_op: str, size: float, wire: Wire) -> tuple[Phase, ...]:
    return (wire.everyone("one-shot", size),)


def _ring(op: str, size: float, wire: Wire) -> tuple[Phase, ...]:
    """As many rings as a block has ranks, each leaving it at another rank: the wire bytes leave a block once."""
    return (_along_rings(op, ALGORITHMS[op]["ring"].wire(wire.size) * size, wire),)


def _along_rings(op: str, volume: float, wire: Wire, levels: int | None = None) -> Phase:
    nested = wire.nested()
    if nested is None:
        follow = np.roll(wire.ranks, -1, axis=1)
        return (wire.pairs("ring", wire.ranks, follow, volume),)
    out: list[Pattern] = []
    for position, (index, shaped) in enumerate(nested[:levels]):
        tier = wire.system.tiers[index]
        share = 1 / shaped.shape[2]
        outer = nested[position + 1] if position + 1 < len(nested) else None
        if outer is not None and not wire.system.tiers[outer[0]].scale_out:
            # the hop that leaves a block replaces the one that would close the ring in it; an adapter of another
            # device is reached over that hop (NCCL's PXN), so that a scale-out tier replaces nothing
            share -= 1 / outer[1].shape[2]
        if tier.topology == "mesh":
            # a full mesh of b places holds b - 1 rings without a common link: every link carries its part
            members = np.swapaxes(shaped, 1, 2).reshape(-1, shaped.shape[1])
            out += wire.everyone("rings", volume * share / (shaped.shape[1] - 1), members)
            continue
        if tier.topology in ("torus", "ring"):
            out += _around_axes(wire, tier, shaped, volume * share)
            continue
        follow = np.roll(shaped, -1, axis=1)
        source = shaped
        if op == "broadcast" and position == len(nested) - 1:
            source, follow = shaped[:, :-1], follow[:, :-1]
        out.append(wire.pairs(f"ring {tier.name}", source, follow, volume * share))
    return tuple(out)


def _around_axes(wire: Wire, tier: Tier, shaped: Ints, volume: float) -> Phase:
    """Rings both ways round every axis that the ranks fill, each axis with its part of the bytes."""
    sides, places = [], shaped.shape[1]
    for side in torus_sides(wire.system, tier, min(wire.system.devices, tier.devices)):
        if places % side == 0 and side > 1:
            sides.append(side)
            places //= side
    if places > 1:
        sides = [shaped.shape[1]]  # not whole axes: one ring in the order of the ranks
    grid = shaped.reshape(len(shaped), *sides[::-1], shaped.shape[2])
    part = volume / (2 * len(sides))
    return tuple(
        wire.pairs(f"ring axis {axis}", grid, np.roll(grid, step, axis=1 + axis), part)
        for axis in range(len(sides))
        for step in (-1, 1)
    )


def _tree(op: str, size: float, wire: Wire) -> tuple[Phase, ...]:
    """Chains inside the blocks, a double binary tree between the blocks of the outermost tier (Sanders et al.).

    Few blocks and full meshes take the rings, which move the same bytes over all their links.

    The edges are scaled so that the busiest block sends what the closed form counts, wire x S over all its ranks.
    """
    nested = wire.nested()
    if nested is None or nested[-1][1].shape[1] < 3 or wire.system.tiers[nested[-1][0]].topology == "mesh":
        return (_along_rings(op, ALGORITHMS[op]["tree"].wire(wire.size) * size, wire),)
    volume = ALGORITHMS[op]["tree"].wire(wire.size) * size
    shaped = nested[-1][1]
    edges = _double_tree(shaped.shape[1])
    if op == "broadcast":
        both = edges
    elif op == "all_reduce":
        both = np.vstack([edges, edges[:, ::-1]])
    else:
        both = edges[:, ::-1] if op == "reduce_scatter" else edges
    busiest = np.bincount(both.ravel(order="F")[: len(both)], minlength=shaped.shape[1]).max()
    payload = volume / busiest / shaped.shape[2]
    up = wire.pairs("tree", shaped[:, both[:, 0]], shaped[:, both[:, 1]], payload)
    return ((*_along_rings(op, volume, wire, len(nested) - 1), up),)


def _double_tree(blocks: int) -> Ints:
    """Edges parent -> child of two binary trees over the blocks; a leaf of one is an inner node of the other."""
    inner = np.arange(1, blocks)
    first = np.stack([(inner - 1) // 2, inner], axis=1)
    return np.vstack([first, blocks - 1 - first])


def _halving(op: str, size: float, wire: Wire) -> tuple[Phase, ...]:
    """Recursive halving, doubling back for all_reduce; a prime factor p of n is a direct exchange among p partners."""
    n, out, part, far = wire.size, [], size, wire.size
    place = np.arange(n)
    for radix in _factors(n):
        near = far // radix
        part /= radix
        mine = place // near % radix
        partners = np.stack([place + ((mine + k) % radix - mine) * near for k in range(1, radix)], axis=1)
        source = np.broadcast_to(wire.ranks[:, :, None], (*wire.ranks.shape, radix - 1))
        out.append((wire.pairs(f"exchange {near}", source, wire.ranks[:, partners], part),))
        far = near
    if op == "all_reduce":
        return (*out, *reversed(out))
    return tuple(reversed(out)) if op == "all_gather" else tuple(out)


def _factors(n: int) -> list[int]:
    out, prime = [], 2
    while n > 1:
        while n % prime == 0:
            out.append(prime)
            n //= prime
        prime += 1
    return out


def _hierarchical(op: str, size: float, wire: Wire) -> tuple[Phase, ...]:
    """Inside the blocks below the outermost tier, then between ranks of the same place in different blocks."""
    nested = wire.nested()
    if nested is None:
        raise InputError("a hierarchical schedule needs the same number of ranks in every block of the fabric")
    _, shaped = nested[-1]
    inside = shaped.reshape(-1, shaped.shape[2])
    between = np.swapaxes(shaped, 1, 2).reshape(-1, shaped.shape[1])
    n, block, blocks = wire.size, shaped.shape[2], shaped.shape[1]
    if op == "all_to_all":
        return _kept(wire.everyone("inside", size / block, inside), wire.everyone("between", size / blocks, between))
    gather = wire.everyone("gather inside", size / block, inside)
    across = wire.everyone("gather between", size / n, between)
    if op == "all_gather":
        return _kept(across, gather)
    scatter = wire.everyone("scatter inside", size / block, inside)
    reduce = wire.everyone("scatter between", size / n, between)
    if op == "reduce_scatter":
        return _kept(scatter, reduce)
    return _kept(scatter, reduce, across, gather)


def _kept(*phases: Phase) -> tuple[Phase, ...]:
    return tuple(phase for phase in phases if phase)


SCHEDULES: Mapping[str, Callable[[str, float, Wire], tuple[Phase, ...]]] = {
    "direct": _direct,
    "pairwise": _direct,
    "two-shot": _direct,
    "one-shot": _one_shot,
    "nvls": _nvls,
    "ring": _ring,
    "tree": _tree,
    "halving-doubling": _halving,
    "recursive": _halving,
    "hierarchical": _hierarchical,
}
