"""Matrix products of many formats, kinds and directions in one call: their constants lie in one table, a row for each.

Lists of products whose sizes are numbers are priced here; cost.gemm prices sweeps, one format at a time.

Products of a training step follow each other for seconds and run at the clock that long products fall to; short ones
share it. A format whose own long products were measured (long) takes what they lose, others what BF16 loses. Constants
that were fitted on kernels of a training step (the context) hold that clock already.

An engine under a steady load of requests does the same (`steady`), as far as its products are bound by the cores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from supertwin.core.formats import number_format
from supertwin.cost.calibration import Calibration
from supertwin.cost.gemm import (
    DEFAULT_CONDITIONS,
    PRIOR,
    Constants,
    GemmConditions,
    GemmCost,
    candidate_names,
    coordinates,
    corrected,
    format_key,
    gemm_parameters,
    is_head,
    terms,
    traits_of,
)
from supertwin.cost.stack import GET_OPTIONS, loop_class
from supertwin.cost.surface import Array, Surface
from supertwin.cost.tiles import Extent
from supertwin.machine.chip import Chip
from supertwin.workload.operators import Gemm

# A training step runs the products of the framework's cuBLAS calls; more groups than any device has experts are one
# strided batch (scores, scans), not a loop over experts.
TRAINING_GEMM = GemmConditions(context="cublas-training")
# Assumption: chips without measurements of long products lose as much clock as those that have them (A100, H100, B200
# and GB200 lose 17 to 27 %). TPUs are known to hold their clock under matrix load.
_UNMEASURED_THROTTLE = 0.18
_STEADY_VENDORS = ("google",)
# 910B and 910C: FlagPerf holds 304.3 TFLOP/s in 8192^3 at 364.6 W, below the limit of 400 W (kernels.csv, WP-A2); the
# fitted curve passes through that long measurement, so nothing is left to take off.
_STEADY_ARCHITECTURES = ("da-vinci-220x",)
_SIXTEEN_BITS = ("bf16", "fp16")
_STRIDED = 2  # loop_class of one strided batch


@dataclass(frozen=True, slots=True)
class Chosen:
    """Constants of a list of products by name [N], and the places in it that each residual surface corrects."""

    constants: Mapping[str, Array]
    surfaces: tuple[tuple[Surface, npt.NDArray[np.intp]], ...]
    training: bool


class ProductTable:
    """Constants of the products of one chip, a row per options, kind and use; rows are made at their first use."""

    def __init__(self, chip: Chip, calibration: Calibration, steady: bool = False) -> None:
        self._chip, self._calibration, self._steady = chip, calibration, steady
        self._rows: dict[tuple[Any, ...], int] = {}
        self._names: tuple[str, ...] = ()
        self._values: list[list[float]] = []
        self._table = np.empty((0, 0))
        self._surfaces: list[Surface | None] = []

    def cost(self, products: Sequence[Gemm], sizes: Mapping[str, Array], training: bool) -> GemmCost:
        """Cost of products; sizes: their m, n, k and groups as arrays [N]. training: of a training step."""
        return self.cost_of(self.chosen(products, training), sizes)

    def chosen(self, products: Sequence[Gemm], training: bool) -> Chosen:
        """The constants of a list of products, which do not depend on their sizes beyond kind and use."""
        rows = [self._row(product, training) for product in products]
        if len(self._table) != len(self._values):
            self._table = np.array(self._values)
        constants = dict(zip(self._names, self._table[rows].T, strict=True))
        places: dict[int, tuple[Surface, list[int]]] = {}
        for place, row in enumerate(rows):
            surface = self._surfaces[row]
            if surface is not None:
                places.setdefault(id(surface), (surface, []))[1].append(place)
        surfaces = tuple((surface, np.array(found)) for surface, found in places.values())
        return Chosen(constants, surfaces, training)

    def cost_of(self, chosen: Chosen, sizes: Mapping[str, Array]) -> GemmCost:
        """Cost of products whose constants are chosen."""
        constants = chosen.constants
        m, n, k, groups = (np.maximum(sizes[name], 1.0) for name in ("m", "n", "k", "groups"))
        extent = Extent(m, n, k, groups, constants["a_bytes"], constants["b_bytes"])
        raw = terms(self._chip, constants, extent, DEFAULT_CONDITIONS)
        cost = corrected(self._chip, constants, extent, (raw, _factor(chosen, extent)), DEFAULT_CONDITIONS)
        if chosen.training:
            return at_sustained_clock(cost, constants)
        return at_serving_clock(cost, constants) if self._steady else cost

    def _row(self, product: Gemm, training: bool) -> int:
        loop = loop_class(product.groups)
        kind = "" if loop == 0 else "heads" if is_head(product.n, product.k) else "grouped"
        key = (GET_OPTIONS[Gemm](product), loop, kind, training)
        if key not in self._rows:
            self._add(product, kind, TRAINING_GEMM if training and loop != _STRIDED else DEFAULT_CONDITIONS)
            self._rows[key] = len(self._rows)
        return self._rows[key]

    def _add(self, product: Gemm, kind: str, conditions: GemmConditions) -> None:
        chip, names = self._chip, candidate_names(format_key(product, kind), conditions.context)
        parameters = gemm_parameters(self._calibration, format_key(product, kind), conditions.context)
        size = number_format(product.dtype).bytes_per_element
        stored = number_format(product.weight_dtype or product.dtype).bytes_per_element
        row = {name: parameters[name] for name in PRIOR} | {"a_bytes": size, "b_bytes": stored}
        row |= traits_of(chip, product, parameters)
        key = format_key(product, "grouped" if kind else "")
        if self._steady and not conditions.context:
            row |= served(chip, self._calibration, key, product)
        else:
            row |= sustained(chip, self._calibration, key, conditions)
        self._names = tuple(row)
        self._values.append(list(row.values()))
        self._surfaces.append(self._calibration.surface(*names))


def _factor(chosen: Chosen, extent: Extent) -> Array:
    """Residual of every product, by the surface of its row."""
    factor = np.ones_like(extent.m)
    for surface, found in chosen.surfaces:
        factor[found] = surface.factor([x[found] for x in coordinates(surface.axes, extent)])
    return factor


def sustained(chip: Chip, calibration: Calibration, key: str, conditions: GemmConditions) -> dict[str, float]:
    """Clock that products of a training step lose (limit), beside the curve that the formula has taken off already
    (seen, seen_s)."""
    context = conditions.context
    own = gemm_parameters(calibration, key, context)
    limit = own["throttle"]
    if not (context and calibration.group(f"{context}:{key}")):
        wide = gemm_parameters(calibration, "bf16", "")["throttle"] or _unlisted_throttle(chip)
        limit = max(limit, own.get("long", wide))
    return {"limit": limit, "seen": own["throttle"], "seen_s": own["throttle_s"]}


def at_sustained_clock(cost: GemmCost, constants: Constants) -> GemmCost:
    """Compute time at the clock that a training step sustains; constants: those of `sustained` and the peak."""
    at_peak = cost.flop / constants["peak_flop_per_s"]
    seen = constants["seen"] * at_peak / (at_peak + constants["seen_s"])
    slower = np.maximum((1.0 - seen) / (1.0 - constants["limit"]) - 1.0, 0.0)
    return replace(cost, time_s=cost.time_s + slower * np.minimum(cost.compute_s, cost.time_s))


def served(chip: Chip, calibration: Calibration, key: str, product: Gemm) -> dict[str, float]:
    """Clock that products in 16 bits lose under a steady load of requests (limit), and what the formula has taken off
    already (seen, seen_s): only what long products of the chip's table, or its relative's, lose."""
    own = gemm_parameters(calibration, key, "")
    falls = number_format(product.dtype).rate in _SIXTEEN_BITS and _unlisted_throttle(chip) > 0.0
    limit = gemm_parameters(calibration, "bf16", "")["throttle"] if falls else 0.0
    return {"limit": limit, "seen": own["throttle"], "seen_s": own["throttle_s"]}


def at_serving_clock(cost: GemmCost, constants: Mapping[str, Any]) -> GemmCost:
    """As at_sustained_clock, where reading and writing memory, which keeps its pace, does not hide it."""
    slower = at_sustained_clock(cost, constants)
    exposed = np.clip(cost.compute_s + (slower.time_s - cost.time_s) - cost.memory_s, 0.0, slower.time_s - cost.time_s)
    return replace(cost, time_s=cost.time_s + exposed)


def _unlisted_throttle(chip: Chip) -> float:
    """Clock lost in long products by a chip whose operator tables do not show it."""
    steady = chip.vendor in _STEADY_VENDORS or chip.architecture in _STEADY_ARCHITECTURES
    return 0.0 if steady else _UNMEASURED_THROTTLE
