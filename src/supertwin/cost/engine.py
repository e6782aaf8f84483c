"""The cost engine: operators in, times out. One instance per chip and calibration; stateless otherwise.

Operators that differ only in their sizes are stacked and priced in one vectorised call: all vector operators, matrix
products of one format, attention of one kernel variant.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
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
    gemm_parameters,
    gemm_spread,
    is_head,
)
from supertwin.cost.geometry import Array
from supertwin.cost.result import OperatorCost
from supertwin.cost.vector import VectorModel, VectorWork
from supertwin.machine.chip import Chip
from supertwin.workload.operators import Attention, ExpertMlp, Gemm, Operator, Vector, changed

Source = tuple[str, str, str, str]
_GET_COST = attrgetter("time_s", "compute_s", "memory_s", "overhead_s", "flop", "bytes")
# Numeric fields (stacked) and options (part of the key) by kind.
_SIZES: dict[type[Operator], tuple[str, ...]] = {
    Gemm: ("m", "n", "k", "groups"),
    ExpertMlp: ("rows", "experts", "hidden", "inter", "skew", "tokens"),
    Attention: ("batch", "q_len", "kv_len", "heads", "kv_heads", "qk_head_dim", "v_head_dim", "window"),
    Vector: ("bytes_read", "bytes_written", "flop", "rows"),
}
_OPTIONS: dict[type[Operator], tuple[str, ...]] = {
    Gemm: ("dtype", "weight_dtype", "out_dtype", "quantize_input", "direction"),
    ExpertMlp: ("gated", "dtype", "weight_dtype", "distribution", "routing"),
    Attention: ("phase", "dtype", "kv_dtype", "causal", "latent", "gathered", "direction"),
    Vector: (),
}
_GET_SIZES = {kind: attrgetter(*names) for kind, names in _SIZES.items()}
_GET_OPTIONS: dict[type[Operator], Any] = {
    kind: attrgetter(*names) if names else lambda _: () for kind, names in _OPTIONS.items()
}
# A training step runs the products of the framework's cuBLAS calls; more groups than any device has experts are one
# strided batch (scores, scans), not a loop over experts.
_TRAINING_GEMM = GemmConditions(context="cublas-training")
_MOST_EXPERTS = 256.0
# Assumption: chips without measurements of long products lose as much clock as those that have them (A100, H100, B200
# and GB200 lose 17 to 27 %). TPUs are known to hold their clock under matrix load.
_UNMEASURED_THROTTLE = 0.18
_STEADY_VENDORS = ("google",)
# 910B and 910C: FlagPerf holds 304.3 TFLOP/s in 8192^3 at 364.6 W, below the limit of 400 W (kernels.csv, WP-A2); the
# fitted curve passes through that long measurement, so nothing is left to take off.
_STEADY_ARCHITECTURES = ("da-vinci-220x",)
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
    """

    def __init__(self, chip: Chip, library: str = "", expert_kernels: str = "") -> None:
        self.chip = chip
        self.library = library
        self._expert_conditions = GemmConditions(context=expert_kernels)
        self._gemm = load_calibration(chip, "gemm")
        self._experts = load_calibration(chip, "experts")
        self._vector = VectorModel(chip, load_calibration(chip, "vector"))
        self._attention: dict[str, AttentionModel] = {}
        self._spreads: dict[tuple[Any, ...], float] = {}
        self._sources: tuple[int, tuple[Source, ...]] = (-1, ())

    def price(self, operators: Sequence[Operator]) -> list[OperatorCost]:
        """Cost of each operator, in order. Communication operators are refused (ValueError): see supertwin.network."""
        library = self._library_for(operators)
        stacks: dict[tuple[Any, ...], list[int]] = {}
        for index, operator in enumerate(operators):
            stacks.setdefault(_key(operator), []).append(index)
        costs: list[OperatorCost | None] = [None] * len(operators)
        for key, indices in stacks.items():
            members = [operators[i] for i in indices]
            priced = self._stack(members, key[1], library)
            for i, cost in zip(indices, _unstack(members, priced, key[1]), strict=True):
                costs[i] = cost
        return [cost for cost in costs if cost is not None]

    def spread(self, cost: OperatorCost) -> float:
        """90 % half-width of ln(measured / predicted) of one priced operator."""
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
        loop = library in _TRAINING_LIBRARIES and bool(np.all(np.asarray(groups) <= _MOST_EXPERTS))
        return _TRAINING_GEMM if loop else DEFAULT_CONDITIONS

    def _stack(self, members: Sequence[Operator], shape: tuple[int, ...], library: str) -> Cost:
        first = members[0]
        fields = _stacked(members, shape)
        if isinstance(first, Gemm):
            if library not in _TRAINING_LIBRARIES:
                return gemm_cost(self.chip, self._gemm, changed(first, **fields))
            conditions = self._gemm_conditions(fields["groups"], library)
            cost = gemm_cost(self.chip, self._gemm, changed(first, **fields), conditions)
            key = format_key(first, "grouped" if np.any(fields["groups"] > 1.0) else "")
            return self._at_sustained_clock(cost, first.dtype, key, conditions.context)
        if isinstance(first, Attention):
            return self.attention(library).cost(changed(first, **fields))
        if isinstance(first, ExpertMlp):
            return expert_cost(self.chip, self._experts, changed(first, **fields), self._expert_conditions)
        return self._price_vectors([m for m in members if isinstance(m, Vector)], fields)

    def _at_sustained_clock(self, cost: GemmCost, dtype: str, key: str, context: str) -> GemmCost:
        """Products that follow each other for seconds run at the clock that long products fall to.

        Short products of a step share that clock. A format whose own long products were measured (long) takes what
        they lose, others what BF16 loses. Constants that were fitted on kernels of a training step (the context) hold
        that clock already.
        """
        own = gemm_parameters(self._gemm, key, context)
        limit = own["throttle"]
        if not (context and self._gemm.group(f"{context}:{key}")):
            wide = gemm_parameters(self._gemm, "bf16", "")["throttle"] or self._unlisted_throttle()
            limit = max(limit, own.get("long", wide))
        at_peak = cost.flop / self.chip.peak(number_format(dtype).rate)
        seen = own["throttle"] * at_peak / (at_peak + own["throttle_s"])
        slower = np.maximum((1.0 - seen) / (1.0 - limit) - 1.0, 0.0)
        return replace(cost, time_s=cost.time_s + slower * np.minimum(cost.compute_s, cost.time_s))

    def _unlisted_throttle(self) -> float:
        """Clock lost in long products by a chip whose operator tables do not show it."""
        steady = self.chip.vendor in _STEADY_VENDORS or self.chip.architecture in _STEADY_ARCHITECTURES
        return 0.0 if steady else _UNMEASURED_THROTTLE

    def _price_vectors(self, members: Sequence[Vector], fields: dict[str, Array]) -> Cost:
        rows = np.array([self._vector.row(m.op) for m in members])
        moved = fields["bytes_read"] + fields["bytes_written"]
        fused = np.array([float(m.fused) for m in members]).reshape((-1,) + (1,) * (moved.ndim - 1))
        return self._vector.times(rows, VectorWork(moved, fields["flop"], fields["rows"], fused))


def _key(operator: Operator) -> tuple[Any, ...]:
    """What must agree for operators to be stacked: kind, shape of their fields, options; head sizes of attention."""
    kind = type(operator)
    if kind not in _SIZES:
        raise ValueError(f"{kind.__name__} is not work of a device: communication is priced by supertwin.network")
    sizes = _GET_SIZES[kind](operator)
    shape = np.broadcast_shapes(*map(np.shape, sizes)) if np.ndarray in map(type, sizes) else ()
    if isinstance(operator, Gemm):
        return (kind, shape, _GET_OPTIONS[kind](operator), _loop_class(sizes[3]))
    if isinstance(operator, Attention):
        heads = sizes[5:7] if shape == () else tuple(float(np.max(x)) for x in sizes[5:7])
        return (kind, shape, _GET_OPTIONS[kind](operator), *heads)
    return (kind, shape, _GET_OPTIONS[kind](operator))


def _spread_key(operator: Operator) -> tuple[Any, ...] | None:
    """What the spread of an operator depends on; None where its sizes are arrays."""
    kind = type(operator)
    sizes = _GET_SIZES[kind](operator)
    if np.ndarray in map(type, sizes):
        return None
    options = _GET_OPTIONS[kind](operator)
    if kind is Gemm:
        _, n, k, groups = sizes
        return (kind, options, _loop_class(groups), is_head(n, k))
    return (kind, options, *sizes[5:7]) if kind is Attention else (kind, options)


def _loop_class(groups: Any) -> int:
    """0: one product; 1: a loop over experts; 2: one strided batch (scores, scans)."""
    most = float(np.max(groups)) if isinstance(groups, np.ndarray) else groups
    return 0 if most <= 1.0 else 1 if most <= _MOST_EXPERTS else 2


def _stacked(members: Sequence[Operator], shape: tuple[int, ...]) -> dict[str, Array]:
    """Sizes as arrays [operators, *shape] (a field that is the same number everywhere stays [operators, 1 ...])."""
    names = _SIZES[type(members[0])]
    if shape == ():
        table = np.array([*map(_GET_SIZES[type(members[0])], members)], dtype=np.float64).T
        return dict(zip(names, table, strict=True))
    ones = (1,) * len(shape)
    out = {}
    for name in names:
        values = [np.asarray(getattr(m, name), dtype=np.float64) for m in members]
        if all(v.ndim == 0 for v in values):
            out[name] = np.array(values).reshape(-1, *ones)
        else:
            out[name] = np.stack([np.broadcast_to(v, shape) for v in values])
    return out


def _unstack(members: Sequence[Operator], cost: Cost, shape: tuple[int, ...]) -> Iterable[OperatorCost]:
    """One result per operator: floats where its fields are numbers, arrays of their broadcast shape otherwise."""
    count = len(members)
    full = (count, *shape)
    columns = [c if c.shape == full else np.broadcast_to(c, full) for c in map(np.asarray, _GET_COST(cost))]
    if shape == ():
        values: Iterable[tuple[Any, ...]] = zip(*(column.tolist() for column in columns), strict=True)
    else:
        values = zip(*columns, strict=True)
    return [OperatorCost(member, *value) for member, value in zip(members, values, strict=True)]
