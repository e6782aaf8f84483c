"""Who sends how much to whom: what schedules hand to the fabric.

Two forms cover every collective: listed pairs, and all pairs of groups at a given distance, which are never listed (768
dies are 589,056 pairs).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Listed flows: device numbers source[i] -> target[i], bytes_each[i] on the wire, all of shape [flows]."""

    name: str
    source: Ints
    target: Ints
    bytes_each: Floats


@dataclass(frozen=True, slots=True)
class AllPairs:
    """Every rank to every other rank of its group, when both lie in one block of `outer` neighbours and in two blocks
    of `inner` neighbours (tier sizes in devices). ranks: device numbers, [groups, ranks of a group].
    """

    name: str
    ranks: Ints
    bytes_each: float
    inner: int
    outer: int

    def listed(self) -> Pairs:
        """The same flows one by one; n squared of them."""
        source, target = (
            np.broadcast_to(a, (*self.ranks.shape, self.ranks.shape[1])).ravel()
            for a in (self.ranks[:, :, None], self.ranks[:, None, :])
        )
        keep = (source // self.inner != target // self.inner) & (source // self.outer == target // self.outer)
        source, target = source[keep], target[keep]
        return Pairs(self.name, source, target, np.full(source.size, self.bytes_each))


Pattern = Pairs | AllPairs
Phase = tuple[Pattern, ...]  # patterns that run at the same time; a phase begins when the one before has ended
