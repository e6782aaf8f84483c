"""Time of a matrix product on one device: tiles and waves on the cores, operand traffic, fixed cost, fitted residual.

    time = max(fixed + smooth_max(cores, memory), host) x residual + quantisation of the input
    cores  = best tile and split of the contraction (supertwin.cost.tiles)
    memory = bytes / (achieved share of the peak), weights from memory and activations from L2 while they fit

Every parameter is a share of the chip's own peak or a fixed number of seconds; see docs/cost-gemm.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from supertwin.core.formats import number_format
from supertwin.cost.calibration import Calibration
from supertwin.cost.memory import resident_share, smooth_maximum, transfer_time_s
from supertwin.cost.surface import Array
from supertwin.cost.tiles import CoreRates, Extent, tile_scale, wave_time_s
from supertwin.machine.chip import Chip
from supertwin.workload.operators import Gemm

# Documented priors (assumption: typical of the fitted chips), used for a chip without any measurement in its family.
PRIOR: Mapping[str, float] = {
    "multiply": 0.80,  # share of the matrix peak in the main loop
    "load": 1.0,  # operand loads of all cores, share of the L2 peak
    "memory": 0.85,  # share of the memory peak
    "prologue_s": 1.0e-6,  # start and end of a tile, per wave
    "split_s": 0.8e-6,  # joining a split contraction
    "quantisation": 0.7,  # 1 whole waves, 0 evenly spread
    "sharpness": 4.0,  # of the maximum of cores and memory
    "fixed_s": 2.5e-6,  # kernel start in a replayed graph
    "quantize_s": 2.0e-6,  # start of the pass that quantises A
    "quantize_spread_s": 0.0,  # what starting it on all vector cores adds (cost.vector, spread_s)
    "quantize_rate": 0.0,  # its share of the memory peak at any size; 0: as operands move, from L2 while they fit
    "dgrad": 1.0,  # factor on the work by direction (transposed operands)
    "wgrad": 1.0,
    "scale": 1.0,  # factor on the work of a context that is otherwise like the default one
    "throttle": 0.0,  # share of the matrix rate lost to the power limit in long products
    "throttle_s": 3.0e-4,  # time at peak at which half of that is lost
    # long (no prior): share of the rate that products of 5 ms and more lose against the formula without throttle
    "host_s": 0.0,  # dispatch by the host: a lower bound where launches are not replayed from a graph
    "group_s": 0.0,  # the same per group, where the library launches groups one by one
}
Constants = Mapping[str, float] | Mapping[str, Array]
# Formats in the order in which one stands for another that was not measured: same width first.
KINDS = ("", "heads", "grouped")
_LARGEST_HEAD = 2.0**17  # n x k up to which groups are heads of attention (128 x 512 in absorbed MLA), not experts
_HOST_SHARPNESS = 8.0  # of the maximum of device and host: they overlap fully
_NEAREST = {
    "fp16": ("bf16",),
    "fp32": ("tf32", "bf16"),
    "tf32": ("bf16",),
    "fp8": ("fp8-tensorwise", "fp8-blockwise", "int8", "bf16"),
    "fp8-rowwise": ("fp8-tensorwise", "fp8-blockwise", "bf16"),
    "fp8-tensorwise": ("fp8-blockwise", "int8", "bf16"),
    "fp8-blockwise": ("fp8-tensorwise", "bf16"),
    "mxfp8": ("fp8-blockwise", "fp8-tensorwise", "bf16"),
    "int8": ("fp8-tensorwise", "bf16"),
    "int4": ("int8", "bf16"),
    "mxfp4": ("nvfp4", "fp8-blockwise", "fp8-tensorwise", "bf16"),
    "nvfp4": ("mxfp4", "fp8-blockwise", "fp8-tensorwise", "bf16"),
    "bf16": ("fp16",),
}


@dataclass(frozen=True, slots=True)
class GemmCost:
    """Times in seconds, flop and bytes; every field has the broadcast shape of the operator's fields."""

    time_s: Array
    compute_s: Array
    memory_s: Array
    overhead_s: Array
    flop: Array
    bytes: Array


@dataclass(frozen=True, slots=True)
class GemmConditions:
    """How the product is run.

    context: measuring framework of the calibration (trtllm, sglang, vllm, vidur, frontier, deepgemm, cublas-training,
    torch-eager, best-shape, deepgemm-bench; for experts also cutlass, deepep-context, deepep-generation);
    "" is what the twin uses. weights_cold: weights come from memory, as in a model of many layers; False: a loop over
    `loop_weights` copies, as kernel timings do. grouped: price as a grouped product also where groups is 1
    (a table of batched products); by default groups decides.
    """

    context: str = ""
    weights_cold: bool = True
    loop_weights: float = 1.0
    grouped: bool = False


DEFAULT_CONDITIONS = GemmConditions()


def gemm_cost(
    chip: Chip, calibration: Calibration, gemm: Gemm, conditions: GemmConditions = DEFAULT_CONDITIONS
) -> GemmCost:
    """Cost of one execution of a matrix product, or of a stack of them (fields as arrays).

    Single and grouped products have their own residuals; a stack may mix them.
    """
    shape, extent = flat_extent(gemm)
    kinds = product_kinds(extent, conditions.grouped)
    present = np.flatnonzero(np.bincount(kinds))
    if len(present) <= 1:
        kind = KINDS[present[0]] if len(present) else ""
        return _shaped(_priced(chip, calibration, (gemm, extent, kind), conditions), shape)
    joined = [np.empty(len(kinds)) for _ in GemmCost.__slots__]
    for index in present:
        mask = kinds == index
        part = _priced(chip, calibration, (gemm, _rows(extent, mask), KINDS[int(index)]), conditions)
        for whole, name in zip(joined, GemmCost.__slots__, strict=True):
            whole[mask] = getattr(part, name)
    return _shaped(GemmCost(*joined), shape)


def gemm_spread(calibration: Calibration, gemm: Gemm, conditions: GemmConditions = DEFAULT_CONDITIONS) -> float:
    """90 % half-width of ln(measured / predicted) of the constants that price the product; the widest of a stack."""
    kinds = np.unique(product_kinds(flat_extent(gemm)[1], conditions.grouped))
    keys = [format_key(gemm, KINDS[int(kind)]) for kind in kinds] or [format_key(gemm)]
    return max(calibration.spread_of(*candidate_names(key, conditions.context)) for key in keys)


def product_kinds(extent: Extent, batched: bool = False) -> npt.NDArray[np.int64]:
    """Index into KINDS: single products, heads (groups with a matrix of one attention head), grouped (experts)."""
    several = (extent.groups > 1.0) | batched
    return np.where(several, np.where(is_head(extent.n, extent.k), 1, 2), 0)


def is_head(n: Array | float, k: Array | float) -> npt.NDArray[np.bool_] | bool:
    """Whether a matrix is small enough to be that of one attention head."""
    return n * k < _LARGEST_HEAD


def _priced(
    chip: Chip, calibration: Calibration, work: tuple[Gemm, Extent, str], conditions: GemmConditions
) -> GemmCost:
    gemm, extent, kind = work
    key = format_key(gemm, kind)
    parameters = gemm_parameters(calibration, key, conditions.context)
    raw = gemm_terms(chip, parameters, gemm, extent, conditions)
    surface = calibration.surface(*candidate_names(key, conditions.context))
    factor = np.ones_like(raw.time_s) if surface is None else surface.factor(coordinates(surface.axes, extent))
    return corrected(chip, {**parameters, **traits_of(chip, gemm, parameters)}, extent, (raw, factor), conditions)


def corrected(
    chip: Chip, constants: Constants, extent: Extent, found: tuple[GemmCost, Array], conditions: GemmConditions
) -> GemmCost:
    """The formula's result times its residual (found), held to the peaks, with the quantisation pass."""
    raw, factor = found
    quantize = _quantize_s(chip, constants, extent)
    return GemmCost(
        time_s=np.maximum(raw.time_s * factor, _bound_s(chip, constants, extent, conditions)) + quantize,
        compute_s=raw.compute_s * factor,
        memory_s=raw.memory_s * factor + quantize,
        overhead_s=raw.overhead_s * factor,
        flop=raw.flop,
        bytes=raw.bytes,
    )


def _bound_s(chip: Chip, constants: Constants, extent: Extent, conditions: GemmConditions) -> Array:
    """What no residual may undercut: arithmetic at the peak and, when cold, weights at the memory peak."""
    arithmetic = 2.0 * extent.groups * extent.m * extent.n * extent.k / constants["peak_flop_per_s"]
    if not conditions.weights_cold:
        return arithmetic
    return np.maximum(arithmetic, extent.groups * extent.n * extent.k * extent.b_bytes / chip.memory_bytes_per_s)


def coordinates(axes: tuple[str, ...], extent: Extent) -> list[Array]:
    """Coordinates of a residual surface: log2 of m, n, k, groups, or of n x k (axis nk)."""
    values = {"m": extent.m, "n": extent.n, "k": extent.k, "groups": extent.groups}
    return [np.log2(extent.n * extent.k if axis == "nk" else values[axis]) for axis in axes]


def gemm_terms(
    chip: Chip, parameters: Mapping[str, float], gemm: Gemm, extent: Extent, conditions: GemmConditions
) -> GemmCost:
    """The physical formula alone, without residual and quantisation pass. Fields are flat [N]."""
    return terms(chip, {**parameters, **traits_of(chip, gemm, parameters)}, extent, conditions)


def traits_of(chip: Chip, gemm: Gemm, parameters: Mapping[str, float]) -> dict[str, float]:
    """What the formula needs to know of a product beside its sizes and fitted constants: peak of its format, bytes
    moved per output element (a weight gradient is added to the one accumulated so far: read and written), factor on the
    work by direction, and 1 where a separate pass quantises its input."""
    size = number_format(gemm.out_dtype).bytes_per_element
    return {
        "peak_flop_per_s": chip.peak(number_format(gemm.dtype).rate),
        "out_bytes": 2.0 * size if gemm.direction == "wgrad" else size,
        "turned": parameters.get(gemm.direction, 1.0),
        "quantized": float(gemm.quantize_input),
    }


def terms(chip: Chip, constants: Constants, extent: Extent, conditions: GemmConditions) -> GemmCost:
    """As gemm_terms, from constants (fitted ones and traits) that are numbers or, in a stack of many kinds of products,
    arrays [N]."""
    rates = _core_rates(chip, constants)
    cores = wave_time_s(extent, rates)
    weights = extent.groups * extent.n * extent.k * extent.b_bytes
    others = extent.groups * (extent.m * extent.k * extent.a_bytes + extent.m * extent.n * constants["out_bytes"])
    kept = np.zeros_like(weights)
    if not conditions.weights_cold:
        kept = resident_share(conditions.loop_weights * weights + others, chip.l2_bytes)
    memory = transfer_time_s(chip, weights, kept, constants["memory"])
    memory = memory + transfer_time_s(chip, others, resident_share(2.0 * others, chip.l2_bytes), constants["memory"])
    flop = 2.0 * extent.groups * extent.m * extent.n * extent.k
    scale = constants["scale"] * constants["turned"]
    cores = cores * _throttle(constants, flop)
    work = smooth_maximum(cores, memory, constants["sharpness"]) * scale
    host = np.where(extent.groups > 1.0, extent.groups * constants["group_s"], 0.0) + constants["host_s"]
    fixed = np.zeros_like(work) + constants["fixed_s"]
    return GemmCost(
        time_s=smooth_maximum(fixed + work, host, _HOST_SHARPNESS),
        compute_s=cores * scale,
        memory_s=memory * scale,
        overhead_s=np.maximum(fixed, host),
        flop=flop,
        bytes=weights + others,
    )


def quantize_time_s(chip: Chip, parameters: Mapping[str, float], gemm: Gemm, extent: Extent) -> Array:
    """Seconds of the separate pass that reads A in BF16 and writes it in the format of the product; 0 without one."""
    return _quantize_s(chip, {**parameters, **traits_of(chip, gemm, parameters)}, extent)


def _quantize_s(chip: Chip, constants: Constants, extent: Extent) -> Array:
    quantized = constants["quantized"]
    if not np.any(quantized):
        return np.zeros_like(extent.m)
    moved = extent.groups * extent.m * extent.k * (2.0 + extent.a_bytes)
    kept = resident_share(2.0 * moved, chip.l2_bytes)
    started = np.minimum(extent.groups * extent.m / (2.0 * chip.matrix_cores), 1.0)
    start = constants["quantize_s"] + constants["quantize_spread_s"] * started
    stream = transfer_time_s(chip, moved, kept, constants["memory"])
    own = constants["quantize_rate"]
    return quantized * (start + np.where(own > 0.0, moved / (chip.memory_bytes_per_s * np.maximum(own, 1e-9)), stream))


def flat_extent(gemm: Gemm) -> tuple[tuple[int, ...], Extent]:
    """Broadcast shape of the operator's fields, and them as flat arrays (at least 1: an empty product is cheap)."""
    fields = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (gemm.m, gemm.n, gemm.k, gemm.groups)))
    m, n, k, groups = (np.maximum(f.ravel(), 1.0) for f in fields)
    stored = number_format(gemm.weight_dtype or gemm.dtype).bytes_per_element
    return fields[0].shape, Extent(m, n, k, groups, number_format(gemm.dtype).bytes_per_element, stored)


def format_key(gemm: Gemm, kind: str = "") -> str:
    """Calibration group: the format, with the weights' one when it differs, after the kind: bf16/int4, heads:bf16."""
    mixed = gemm.weight_dtype and gemm.weight_dtype != gemm.dtype
    name = f"{gemm.dtype}/{gemm.weight_dtype}" if mixed else gemm.dtype
    return f"{kind}:{name}" if kind else name


def gemm_parameters(calibration: Calibration, key: str, context: str) -> dict[str, float]:
    """Priors overlaid by the fitted values of the nearest measured format, those of the context first."""
    return {**PRIOR, **calibration.group(*candidate_names(key, context))}


def candidate_names(key: str, context: str) -> list[str]:
    """Calibration groups from nearest to farthest: context first, then the format itself, then formats like it."""
    return list(_candidate_names(key, context))


@lru_cache(maxsize=1024)
def _candidate_names(key: str, context: str) -> tuple[str, ...]:
    kind, _, plain = key.rpartition(":")
    dtype, _, weight = plain.partition("/")
    formats = [plain]
    if weight:
        formats += [f"bf16/{weight}", *(f"bf16/{w}" for w in ("int4", "int8", "mxfp4") if w != weight), dtype]
    formats += _NEAREST.get(dtype, ())
    names = [n for f in formats for n in ((f"{kind}:{f}", f) if kind else (f,))]
    ordered = (n for name in names for n in ((f"{context}:{name}", name) if context else (name,)))
    return tuple(dict.fromkeys(ordered))


def _core_rates(chip: Chip, constants: Constants) -> CoreRates:
    cores = float(chip.matrix_cores)
    return CoreRates(
        cores=cores,
        flop_per_s=constants["peak_flop_per_s"] * constants["multiply"] / cores,
        load_bytes_per_s=chip.l2_bytes_per_s * constants["load"] / cores,
        prologue_s=constants["prologue_s"],
        split_s=constants["split_s"],
        quantisation=constants["quantisation"],
        tile_scale=tile_scale(chip),
    )


def _throttle(constants: Constants, flop: Array) -> Array:
    """Factor >= 1 on the time of the cores: the clock falls when a product lasts long enough to reach the power limit.

    A higher peak shortens the product more than it raises this factor, so it never makes it slower.
    """
    at_peak = flop / constants["peak_flop_per_s"]
    return np.asarray(1.0 / (1.0 - constants["throttle"] * at_peak / (at_peak + constants["throttle_s"])))


def _rows(extent: Extent, mask: npt.NDArray[np.bool_]) -> Extent:
    return replace(extent, m=extent.m[mask], n=extent.n[mask], k=extent.k[mask], groups=extent.groups[mask])


def _shaped(cost: GemmCost, shape: tuple[int, ...]) -> GemmCost:
    return GemmCost(*(getattr(cost, name).reshape(shape) for name in GemmCost.__slots__))
