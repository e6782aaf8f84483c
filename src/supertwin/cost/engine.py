"""The cost engine: operators in, times out. One instance per chip and calibration; stateless otherwise.

Operators that differ only in their sizes are stacked (cost.stack) and priced in one vectorised call: all vector
operators, all matrix products (sweeps: those of one format), attention of one kernel variant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, Protocol

import numpy as np

from supertwin.core.formats import number_format
from supertwin.cost.attention import AttentionModel, variant_of
from supertwin.cost.calibration import Calibration, load_calibration
from supertwin.cost.experts import expert_cost, expert_key, expert_names
from supertwin.cost.gemm import (
    DEFAULT_CONDITIONS,
    GemmConditions,
    GemmCost,
    format_key,
    gemm_cost,
    gemm_spread,
    is_head,
)
from supertwin.cost.geometry import Array
from supertwin.cost.prepared import Prepared, Pricing, filling
from supertwin.cost.products import TRAINING_GEMM, ProductTable, at_serving_clock, at_sustained_clock, served, sustained
from supertwin.cost.result import OperatorCost
from supertwin.cost.stack import (
    GET_OPTIONS,
    GET_SIZES,
    MOST_EXPERTS,
    PRODUCTS,
    Stack,
    columns,
    loop_class,
    runs,
    stacks_of,
)
from supertwin.cost.vector import VectorModel, VectorWork
from supertwin.machine.chip import Chip
from supertwin.workload.operators import Attention, ExpertMlp, Gemm, Operator, Vector, changed

Source = tuple[str, str, str, str]
_GET_COST = attrgetter("time_s", "compute_s", "memory_s", "overhead_s", "flop", "bytes")
MOST_SEEN = 4096  # operators whose spread is kept: prepared lists have theirs for good
_TRAINING_LIBRARIES = ("training", "fa2", "fa3", "cudnn", "aiter")


class Cost(Protocol):
    """What the model of a family returns: arrays of one shape."""

    @property
    def time_s(self) -> Array: ...
    @property
    def compute_s(self) -> Array: ...
    @property
    def memory_s(self) -> Array: ...
    @property
    def overhead_s(self) -> Array: ...
    @property
    def flop(self) -> Array: ...
    @property
    def bytes(self) -> Array: ...


class CostEngine:
    """Prices operators on one device.

    library: attention kernels to assume: "" (serving, except that a list with backward operators is a training step),
    serving, training, or a library by name (trtllm, sglang, flashinfer, fa2, fa3, cudnn).
    expert_kernels: calibration context of mixture-of-experts calls ("" = what the twin uses, cutlass).
    steady: products in 16 bits of a serving step run at the clock of long ones.
    """

    def __init__(self, chip: Chip, library: str = "", expert_kernels: str = "", steady: bool = False) -> None:
        self.chip = chip
        self.library = library
        self._expert_conditions = GemmConditions(context=expert_kernels)
        self._gemm = load_calibration(chip, "gemm")
        self._experts = load_calibration(chip, "experts")
        self._vector = VectorModel(chip, load_calibration(chip, "vector"), "serving" if library == "serving" else "")
        self._attention: dict[str, AttentionModel] = {}
        self._steady = steady
        self._products = ProductTable(chip, self._gemm, steady)
        self._spreads: dict[tuple[Any, ...], float] = {}
        self._seen: dict[int, tuple[Operator, float]] = {}
        self._sources: tuple[int, tuple[Source, ...]] = (-1, ())

    def price(self, operators: Sequence[Operator]) -> list[OperatorCost]:
        """Cost of each operator, in order. Communication operators are refused (ValueError): see supertwin.network."""
        library = self._library_for(operators)
        costs: list[OperatorCost | None] = [None] * len(operators)
        for stack in stacks_of(operators):
            priced = [cost for piece in stack.pieces() for cost in self._priced(stack, piece, library)]
            for index, run in stack.users:
                cost, operator = priced[run], operators[index]
                costs[index] = cost if cost.operator is operator else cost._replace(operator=operator)
        return [cost for cost in costs if cost is not None]

    def _priced(self, stack: Stack, piece: slice, library: str) -> Iterable[OperatorCost]:
        """Costs of some runs of a stack, of the first operator of each."""
        members, shapes = stack.members[piece], stack.shapes[piece]
        fields, lengths = columns(members, shapes)
        if stack.key == PRODUCTS:
            products = [m for m in members if isinstance(m, Gemm)]
            cost: Cost = self._products.cost(products, fields, library in _TRAINING_LIBRARIES)
        else:
            cost = self._stack(members, fields, lengths, library)
        values = (runs(column, shapes, lengths) for column in _GET_COST(cost))
        return map(OperatorCost._make, zip(members, *values, strict=True))

    def prepare(self, operators: Sequence[Operator], places: Sequence[tuple[int, ...]]) -> Prepared:
        """A list whose sizes, all numbers, come later; places: where those of each operator will lie, in the order of
        its fields. Options, classes of groups (loop_class, is_head) and head sizes are those of the list."""
        library = self._library_for(operators)
        fillings = [filling(s, places, partial(self._pricing, s, library)) for s in stacks_of(operators)]
        return Prepared(len(operators), tuple(fillings))

    def _pricing(self, stack: Stack, library: str, members: list[Operator]) -> Pricing:
        """Cost of some members of a stack from their sizes as columns."""
        first = members[0]
        if stack.key == PRODUCTS:
            chosen = self._products.chosen([m for m in members if isinstance(m, Gemm)], library in _TRAINING_LIBRARIES)
            return partial(self._products.cost_of, chosen)
        if isinstance(first, Attention):
            model = self.attention(library)
            return lambda fields: model.cost(changed(first, **fields))
        if isinstance(first, ExpertMlp):
            about = self.chip, self._experts, self._expert_conditions
            return lambda fields: expert_cost(about[0], about[1], changed(first, **fields), about[2])
        return self._vector_pricing([m for m in members if isinstance(m, Vector)], [1] * len(members))

    def spread(self, cost: OperatorCost) -> float:
        """90 % half-width of ln(measured / predicted) of one priced operator."""
        seen = self._seen.get(id(cost.operator))
        if seen is not None and seen[0] is cost.operator:
            return seen[1]
        found = self._spread_by_key(cost)
        if len(self._seen) >= MOST_SEEN:
            self._seen.clear()
        self._seen[id(cost.operator)] = cost.operator, found
        return found

    def _spread_by_key(self, cost: OperatorCost) -> float:
        key = _spread_key(cost.operator)
        if key is None:
            return self._spread(cost.operator)
        if key not in self._spreads:
            self._spreads[key] = self._spread(cost.operator)
        return self._spreads[key]

    def _spread(self, operator: Operator) -> float:
        if isinstance(operator, Attention):
            return self.attention(self._library_for([operator])).kernel(variant_of(operator)).spread
        if isinstance(operator, Gemm):
            conditions = self._gemm_conditions(operator.groups, self._library_for([operator]))
            return gemm_spread(self._gemm, operator, conditions)
        if isinstance(operator, ExpertMlp):
            return self._experts.spread_of(*expert_names(expert_key(operator), self._expert_conditions.context))
        return self._vector.calibration.spread

    def sources(self) -> tuple[Source, ...]:
        """Calibration in use: (name, value, source, layer) for --explain."""
        known, found = self._sources
        if known != len(self._attention):
            found = self._read_sources()
            self._sources = (len(self._attention), found)
        return found

    def _read_sources(self) -> tuple[Source, ...]:
        rows = [row for c in (self._gemm, self._experts, self._vector.calibration) for row in c.sources()]
        files = {id(c): c for model in self._attention.values() for c in model.calibrations()}
        attention = list(files.values()) or self.attention(self.library).calibrations()
        used = attention or [Calibration("attention", self.chip.name)]
        return tuple(dict.fromkeys([*rows, *(row for c in used for row in c.sources())]))

    def attention(self, library: str = "") -> AttentionModel:
        """Attention kernels of a library on this chip."""
        if library not in self._attention:
            self._attention[library] = AttentionModel(self.chip, library)
        return self._attention[library]

    def _library_for(self, operators: Iterable[Operator]) -> str:
        if self.library:
            return self.library
        backward = any(getattr(o, "direction", "fwd") != "fwd" for o in operators)
        return "training" if backward else "serving"

    def _gemm_conditions(self, groups: Array | float, library: str) -> GemmConditions:
        """Training runs the products of cuBLAS, except strided batches."""
        loop = library in _TRAINING_LIBRARIES and bool(np.all(np.asarray(groups) <= MOST_EXPERTS))
        return TRAINING_GEMM if loop else DEFAULT_CONDITIONS

    def _stack(
        self, members: Sequence[Operator], fields: dict[str, Array], lengths: Sequence[int], library: str
    ) -> Cost:
        first = members[0]
        if isinstance(first, Gemm):
            return self._sweep(first, fields, library)
        if isinstance(first, Attention):
            return self.attention(library).cost(changed(first, **fields))
        if isinstance(first, ExpertMlp):
            return expert_cost(self.chip, self._experts, changed(first, **fields), self._expert_conditions)
        priced: Cost = self._vector_pricing([m for m in members if isinstance(m, Vector)], lengths)(fields)
        return priced

    def _sweep(self, first: Gemm, fields: dict[str, Array], library: str) -> GemmCost:
        """Products of one format whose sizes are arrays."""
        conditions = self._gemm_conditions(fields["groups"], library)
        cost = gemm_cost(self.chip, self._gemm, changed(first, **fields), conditions)
        if library not in _TRAINING_LIBRARIES and not self._steady:
            return cost
        key = format_key(first, "grouped" if np.any(fields["groups"] > 1.0) else "")
        peak = {"peak_flop_per_s": self.chip.peak(number_format(first.dtype).rate)}
        if library not in _TRAINING_LIBRARIES:
            return at_serving_clock(cost, served(self.chip, self._gemm, key, first) | peak)
        return at_sustained_clock(cost, sustained(self.chip, self._gemm, key, conditions) | peak)

    def _vector_pricing(self, members: Sequence[Vector], lengths: Sequence[int]) -> Pricing:
        """Pricing of vector work of any classes; lengths: entries of each member in the columns."""
        rows = np.repeat([self._vector.row(m.op) for m in members], lengths)
        fused = np.repeat([float(m.fused) for m in members], lengths)

        def price(fields: Mapping[str, Array]) -> Cost:
            moved = fields["bytes_read"] + fields["bytes_written"]
            return self._vector.times(rows, VectorWork(moved, fields["flop"], fields["rows"], fused, fields["tokens"]))

        return price


def _spread_key(operator: Operator) -> tuple[Any, ...] | None:
    """What the spread of an operator depends on; None where its sizes are arrays."""
    kind = type(operator)
    sizes = GET_SIZES[kind](operator)
    if np.ndarray in map(type, sizes):
        return None
    options = GET_OPTIONS[kind](operator)
    if kind is Gemm:
        _, n, k, groups = sizes
        return (kind, options, loop_class(groups), is_head(n, k))
    return (kind, options, *sizes[5:7]) if kind is Attention else (kind, options)
