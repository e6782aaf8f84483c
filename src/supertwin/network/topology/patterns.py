"""Who sends to whom: groups in which everybody sends to everybody, or a list of arcs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from supertwin.core.errors import InputError
from supertwin.network.group import Group

Ranks: TypeAlias = npt.NDArray[np.int64]
_EMPTY = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Pattern:
    """Flows that start together. Either `groups` (each an all-to-all of its ranks) or arcs source[i] -> target[i].

    Ranks are device numbers. bytes_each: of one flow; priority: strict, lower first; limit_bytes_per_s: most that one
    flow takes by itself. inner, outer: in groups, only pairs in two blocks of `inner` neighbours and in one block of
    `outer` neighbours (tier sizes in devices; 1 and 0: all pairs).
    """

    name: str
    bytes_each: float
    groups: tuple[Ranks, ...] = ()
    source: Ranks = field(default_factory=lambda: _EMPTY)
    target: Ranks = field(default_factory=lambda: _EMPTY)
    priority: int = 0
    start_s: float = 0.0
    limit_bytes_per_s: float = float("inf")
    inner: int = 1
    outer: int = 0

    @property
    def flows(self) -> int:
        """Flows of the pattern."""
        return sum(self._pairs(group) for group in self.groups) + len(self.source)

    def ranks(self) -> Ranks:
        """Ranks that take part, ascending."""
        return np.unique(np.concatenate([_EMPTY, *self.groups, self.source, self.target]))

    def targets(self, rank: int) -> Ranks:
        """Ranks that a rank sends to, with repeats where it has several flows to one."""
        from_groups = [g[self._meets(g, rank)] for g in self.groups if rank in g]
        return np.concatenate([_EMPTY, *from_groups, self.target[self.source == rank]])

    def _meets(self, group: Ranks, rank: int) -> npt.NDArray[np.bool_]:
        there: npt.NDArray[np.bool_] = group // self.inner != rank // self.inner
        if self.outer:
            there &= group // self.outer == rank // self.outer
        return there

    def _pairs(self, group: Ranks) -> int:
        _, out = np.unique(group // self.outer if self.outer else 0 * group, return_counts=True)
        _, near = np.unique(group // self.inner, return_counts=True)
        return int((out**2).sum() - (near**2).sum())


def all_to_all(ranks: int | Sequence[int] | Ranks, bytes_per_pair: float) -> Pattern:
    """Every rank to every other one; a number stands for ranks 0 .. n-1."""
    return grouped([_ranks(ranks)], bytes_per_pair)


def grouped(groups: Iterable[Sequence[int] | Ranks], bytes_per_pair: float) -> Pattern:
    """Several all-to-alls at once."""
    found = tuple(_ranks(group) for group in groups)
    return Pattern("all_to_all", bytes_per_pair, tuple(group for group in found if len(group) > 1))


def shaped(group: Group, devices: int) -> tuple[Ranks, ...]:
    """All groups of a shape that fill `devices` ranks: blocks of size x stride, one group per residue.

    Raises InputError when the block does not fit.
    """
    span = group.span
    if group.size < 1 or group.stride < 1 or span > devices:
        raise InputError(f"groups of {group.size} ranks, {group.stride} apart: expected to fit into {devices} devices")
    starts = (block + first for block in range(0, devices - span + 1, span) for first in range(group.stride))
    return tuple(start + group.stride * np.arange(group.size, dtype=np.int64) for start in starts)


def shift(ranks: int | Sequence[int] | Ranks, bytes_each: float, step: int = 1) -> Pattern:
    """Rank i to rank i + step around the group: a ring step of reduce-scatter or all-gather, a permutation."""
    return shifts([_ranks(ranks)], bytes_each, step)


def shifts(groups: Iterable[Sequence[int] | Ranks], bytes_each: float, step: int = 1) -> Pattern:
    """The same step in several groups at once."""
    found = [g for g in map(_ranks, groups) if step % max(1, len(g))]
    source = np.concatenate([_EMPTY, *found])
    target = np.concatenate([_EMPTY, *(np.roll(g, -step) for g in found)])
    return Pattern(f"shift by {step}", bytes_each, source=source, target=target)


def incast(sources: int | Sequence[int] | Ranks, target: int, bytes_each: float) -> Pattern:
    """Many to one."""
    found = _ranks(sources)
    found = found[found != target]
    return Pattern("incast", bytes_each, source=found, target=np.full(len(found), target, np.int64))


def broadcast(root: int, ranks: int | Sequence[int] | Ranks, bytes_each: float) -> Pattern:
    """One to many, a copy per target (the fabric does not copy)."""
    found = _ranks(ranks)
    found = found[found != root]
    return Pattern("broadcast", bytes_each, source=np.full(len(found), root, np.int64), target=found)


def pair(source: int, target: int, bytes_each: float) -> Pattern:
    """One flow."""
    return Pattern("pair", bytes_each, source=np.array([source]), target=np.array([target]))


def hierarchical(devices: int, inner: int, bytes_per_rank: float) -> tuple[Pattern, Pattern]:
    """All-to-all in two steps: among the `inner` neighbours, then among equal places of all blocks.

    bytes_per_rank: what one rank has for all others. Raises InputError when the blocks do not divide the devices.
    """
    if inner < 1 or devices % inner:
        raise InputError(f"blocks of {inner}: expected a divisor of {devices} devices")
    within = grouped(shaped(Group(inner), devices), bytes_per_rank / inner)
    across = grouped(shaped(Group(devices // inner, inner), devices), bytes_per_rank * inner / devices)
    return within, across


def _ranks(given: int | Sequence[int] | Ranks) -> Ranks:
    found = np.arange(given) if isinstance(given, int | np.integer) else np.asarray(given)
    found = found.astype(np.int64).ravel()
    if len(np.unique(found)) != len(found) or (found < 0).any():
        raise InputError(f"ranks {found[:8].tolist()} ...: expected different device numbers of at least 0")
    return found
