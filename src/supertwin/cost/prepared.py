"""Lists of operators that are priced again and again with other sizes: sorted into stacks once, with what each stack
needs to know of its members; a pricing fills in the sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from supertwin.cost.result import OperatorCost
from supertwin.cost.stack import GET_OPTIONS, GET_VECTOR, SIZES, Stack
from supertwin.cost.surface import Array
from supertwin.workload.operators import Operator, Vector

Pricing = Callable[[Mapping[str, Array]], Any]
_GET_COST = attrgetter("time_s", "compute_s", "memory_s", "overhead_s", "flop", "bytes")


@dataclass(frozen=True, slots=True)
class Filling:
    """One stack. index: [sizes, members], where each size of each member lies among the given values; users:
    (place in the list, member)."""

    names: tuple[str, ...]
    members: tuple[Operator, ...]
    index: npt.NDArray[np.intp]
    users: tuple[tuple[int, int], ...]
    price: Pricing


@dataclass(frozen=True, slots=True)
class Prepared:
    """A list of operators without its sizes."""

    length: int
    fillings: tuple[Filling, ...]

    def costs(self, values: Array) -> list[OperatorCost]:
        """Cost of each operator, in order; values: all sizes. The operators of the costs keep the sizes that they
        were prepared with."""
        out: list[Any] = [None] * self.length
        for f in self.fillings:
            found = f.price(dict(zip(f.names, values[f.index], strict=True)))
            size = (len(f.members),)
            columns = (_list(column, size) for column in _GET_COST(found))
            priced = list(map(OperatorCost._make, zip(f.members, *columns, strict=True)))
            for place, member in f.users:
                out[place] = priced[member]
        return out


def _list(column: Array, size: tuple[int]) -> list[float]:
    values: list[float] = (column if np.shape(column) == size else np.broadcast_to(column, size)).tolist()
    return values


def filling(stack: Stack, places: Sequence[tuple[int, ...]], pricing: Callable[[list[Operator]], Pricing]) -> Filling:
    """A stack whose members are priced once where their sizes lie at the same places. places: of every operator of the
    list that the stack was made of."""
    known: dict[tuple[Any, ...], int] = {}
    members: list[Operator] = []
    where: list[tuple[int, ...]] = []
    users = []
    for index, run in stack.users:
        operator = stack.members[run]
        kind = type(operator)
        key = (*places[index], GET_VECTOR(operator) if kind is Vector else GET_OPTIONS[kind](operator))
        if key not in known:
            known[key] = len(members)
            members.append(operator)
            where.append(places[index])
        users.append((index, known[key]))
    at = np.array(where, dtype=np.intp).T
    return Filling(SIZES[type(members[0])], tuple(members), at, tuple(users), pricing(members))
