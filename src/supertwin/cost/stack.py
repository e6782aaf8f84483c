"""Operators that differ only in their sizes, as flat columns that are priced in one vectorised call.

Every operator takes a run of the columns: one entry where its sizes are numbers, as many as their broadcast shape has
otherwise. Arrays of equal sizes share a run: layers of one model repeat the same projections.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from operator import attrgetter
from typing import Any

import numpy as np

from supertwin.cost.surface import Array
from supertwin.workload.operators import Attention, ExpertMlp, Gemm, Operator, Vector

# Numeric fields (stacked) and options (part of the key) by kind.
SIZES: dict[type[Operator], tuple[str, ...]] = {
    Gemm: ("m", "n", "k", "groups"),
    ExpertMlp: ("rows", "experts", "hidden", "inter", "skew", "tokens"),
    Attention: ("batch", "q_len", "kv_len", "heads", "kv_heads", "qk_head_dim", "v_head_dim", "window"),
    Vector: ("bytes_read", "bytes_written", "flop", "rows", "tokens"),
}
OPTIONS: dict[type[Operator], tuple[str, ...]] = {
    Gemm: ("dtype", "weight_dtype", "out_dtype", "quantize_input", "direction"),
    ExpertMlp: ("gated", "dtype", "weight_dtype", "distribution", "routing"),
    Attention: ("phase", "dtype", "kv_dtype", "causal", "latent", "gathered", "direction"),
    Vector: (),
}
GET_SIZES = {kind: attrgetter(*names) for kind, names in SIZES.items()}
GET_OPTIONS: dict[type[Operator], Any] = {
    kind: attrgetter(*names) if names else lambda _: () for kind, names in OPTIONS.items()
}
GET_VECTOR = attrgetter("op", "fused")  # what tells vector operators of one stack apart beside their sizes
PRODUCTS = (Gemm, True)  # key of the stack of all matrix products whose sizes are numbers
MOST_EXPERTS = 256.0
_PIECE = 1 << 15  # entries priced at a time: the columns of a formula stay in the cache


@dataclass(slots=True)
class Stack:
    """Operators of one key. members: one operator per run; shapes: of their sizes, () for numbers; known: runs by
    sizes; users: (index in the list that was asked for, run)."""

    key: tuple[Any, ...]
    members: list[Operator] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    known: dict[tuple[Any, ...], int] = field(default_factory=dict)
    users: list[tuple[int, int]] = field(default_factory=list)

    def add(self, index: int, operator: Operator, sizes: tuple[Any, ...], shape: tuple[int, ...]) -> int:
        """Put an operator with its sizes into its run, which is returned."""
        run = len(self.members)
        if shape:  # numbers are cheaper to price again than to compare
            same = tuple(x.tobytes() if isinstance(x, np.ndarray) else x for x in sizes)
            if type(operator) is Vector:
                same += GET_VECTOR(operator)
            run = self.known.setdefault((*same, shape), run)
        if run == len(self.members):
            self.members.append(operator)
            self.shapes.append(shape)
        self.users.append((index, run))
        return run

    def pieces(self) -> Iterator[slice]:
        """Runs that are priced together: at most _PIECE entries, or one run that is longer."""
        if len(self.shapes) <= _PIECE and not any(self.shapes):
            yield slice(0, len(self.shapes))
            return
        start, filled = 0, 0
        for run, shape in enumerate(self.shapes):
            length = prod(shape)
            if filled and filled + length > _PIECE:
                yield slice(start, run)
                start, filled = run, 0
            filled += length
        yield slice(start, len(self.shapes))


def stacks_of(operators: Sequence[Operator]) -> list[Stack]:
    """Stacks of a list. Raises ValueError for communication: it is priced by supertwin.network."""
    found: dict[tuple[Any, ...], Stack] = {}
    placed: dict[int, tuple[Stack, int]] = {}  # where each operator lies: lists repeat those that are computed again
    for index, operator in enumerate(operators):
        if id(operator) in placed:
            stack, run = placed[id(operator)]
            stack.users.append((index, run))
            continue
        kind = type(operator)
        if kind not in SIZES:
            raise ValueError(f"{kind.__name__} is not work of a device: communication is priced by supertwin.network")
        sizes = GET_SIZES[kind](operator)
        shape = _shape(sizes) if np.ndarray in map(type, sizes) else ()
        key = _key(kind, operator, sizes, shape == ())
        if key not in found:
            found[key] = Stack(key)
        stack = found[key]
        placed[id(operator)] = stack, stack.add(index, operator, sizes, shape)
    return list(found.values())


def _shape(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    shapes = {x.shape for x in sizes if isinstance(x, np.ndarray)} - {()}
    return np.broadcast_shapes(*shapes) if len(shapes) > 1 else next(iter(shapes), ())


def _key(kind: type[Operator], operator: Operator, sizes: tuple[Any, ...], plain: bool) -> tuple[Any, ...]:
    """What must agree for operators to be stacked: kind, options, class of groups, head sizes of attention; numbers
    apart from arrays. All matrix products whose sizes are numbers are one stack."""
    if plain and kind is Gemm:
        return PRODUCTS
    options = GET_OPTIONS[kind](operator)
    if kind is Gemm:
        return (kind, plain, options, loop_class(sizes[3]))
    if kind is Attention:
        return (kind, plain, options, *(largest(x) for x in sizes[5:7]))
    return (kind, plain, options)


def loop_class(groups: Any) -> int:
    """0: one product; 1: a loop over experts; 2: one strided batch (scores, scans)."""
    most = largest(groups)
    return 0 if most <= 1.0 else 1 if most <= MOST_EXPERTS else 2


def largest(size: Any) -> float:
    """Largest of an array of sizes, or the number itself."""
    return float(size.max()) if isinstance(size, np.ndarray) else size


def columns(members: Sequence[Operator], shapes: Sequence[tuple[int, ...]]) -> tuple[dict[str, Array], list[int]]:
    """Sizes as flat columns by name, and the length of every run."""
    kind = type(members[0])
    names, rows = SIZES[kind], [GET_SIZES[kind](m) for m in members]
    if not any(shapes):
        return dict(zip(names, np.array(rows, dtype=np.float64).T, strict=True)), [1] * len(members)
    lengths = [prod(shape) for shape in shapes]
    ends = np.cumsum(lengths).tolist()
    out = {}
    for name, values in zip(names, zip(*rows, strict=True), strict=True):
        column = out[name] = np.empty(ends[-1])
        for value, shape, length, end in zip(values, shapes, lengths, ends, strict=True):
            column[end - length : end].reshape(shape)[...] = value
    return out, lengths


def runs(column: Array, shapes: Sequence[tuple[int, ...]], lengths: Sequence[int]) -> list[Any]:
    """A flat column cut back into one value per operator: a float where its sizes are numbers."""
    plain = not any(shapes)
    total = len(shapes) if plain else sum(lengths)
    if np.shape(column) != (total,):
        column = np.broadcast_to(column, (total,))
    if plain:
        values: list[Any] = column.tolist()
        return values
    out, end = [], 0
    for shape, length in zip(shapes, lengths, strict=True):
        end += length
        out.append(column[end - length : end].reshape(shape))
    return out
