"""Time of the local experts of a MoE layer: two grouped products, permutation and combination of rows, fitted residual.

    time = fixed + [max(cores, weights)]_up + [max(cores, weights)]_down + rows in and out, all x residual

Experts differ in rows; they are put into classes by the quantiles of the distribution (balanced: one class). An expert
without rows reads no weights: with r expected rows it is used with probability 1 - exp(-r), or min(1, r) when
routing is balanced. Rows of an expert fill whole tiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from supertwin.core.errors import UnknownName
from supertwin.core.formats import number_format
from supertwin.cost.calibration import Calibration
from supertwin.cost.gemm import GemmConditions, GemmCost, candidate_names
from supertwin.cost.memory import smooth_maximum
from supertwin.cost.surface import Array
from supertwin.cost.tiles import scaled_tiles, tile_scale
from supertwin.machine.chip import Chip
from supertwin.workload.operators import ExpertMlp

# Documented priors (assumption: typical of the fitted chips).
EXPERT_PRIOR: Mapping[str, float] = {
    "multiply": 0.65,
    "load": 1.0,
    "memory": 0.80,
    "prologue_s": 2.0e-6,
    "quantisation": 0.5,
    "sharpness": 3.0,
    "fixed_s": 2.0e-5,  # routing, sort, two products, combination: about six kernels
    "rows": 1.0,  # factor on the traffic of rows (permute, activation, combine)
    "tokens": 1.0,  # factor on the traffic of tokens (read once, written once), with routing
    "token_s": 1.0e-9,  # routing of one token
    "scale": 1.0,
}
_WITHOUT_ROUTING = 0.5  # assumption: router, sort and combination are half of the kernels of a fused call
CLASSES = 8
SPREAD_OVER_MEAN = 25.0  # largest over mean expert load that the power law spans (0.8 x experts / topk, as collected)
_TILES = np.array([(16, 64), (16, 128), (32, 128), (64, 128), (64, 256), (128, 128), (128, 256)], dtype=np.float64)
_CHUNK = 1 << 10
SHAPES = "shapes:"
"""Before the name of a group: factors on its time by shape (shape_name)."""
EXPERT_AXES = ("rows", "experts", "inter", "hidden", "alpha")
_DEFAULT = GemmConditions()


@dataclass(frozen=True, slots=True)
class _Flat:
    """Fields of the operator as flat arrays [N]; rows are those of the busiest device."""

    rows: Array
    experts: Array
    hidden: Array
    inter: Array
    tokens: Array


def expert_cost(
    chip: Chip, calibration: Calibration, moe: ExpertMlp, conditions: GemmConditions = _DEFAULT
) -> GemmCost:
    """Cost of one execution of the local experts (fields of the operator may be arrays). rows x skew are computed.

    Raises UnknownName for a distribution that is not balanced, uniform or power_law_<alpha>.
    """
    shape, flat = flat_experts(moe)
    names = expert_names(expert_key(moe), conditions.context)
    raw = expert_terms(chip, expert_parameters(calibration, names), moe, flat)
    surface = calibration.surface(*names)
    factor = shape_factor(calibration, names, flat)
    if surface is not None:
        factor = factor * surface.factor(expert_coordinates(moe, flat))
    return GemmCost(
        time_s=(raw.time_s * factor).reshape(shape),
        compute_s=(raw.compute_s * factor).reshape(shape),
        memory_s=(raw.memory_s * factor).reshape(shape),
        overhead_s=(raw.overhead_s * factor).reshape(shape),
        flop=raw.flop.reshape(shape),
        bytes=raw.bytes.reshape(shape),
    )


def expert_key(moe: ExpertMlp) -> str:
    """Calibration group: the formats; local: after a dispatch, without routing; ungated: one up matrix."""
    mixed = moe.weight_dtype and moe.weight_dtype != moe.dtype
    name = f"{moe.dtype}/{moe.weight_dtype}" if mixed else moe.dtype
    if not moe.routing:
        return f"local:{name}"
    return name if moe.gated else f"ungated:{name}"


def expert_parameters(calibration: Calibration, names: list[str]) -> dict[str, float]:
    """Priors overlaid by the fitted values of the nearest measured group.

    Experts after a dispatch that borrow a group measured with routing keep half of its fixed time, and the reverse.
    """
    found = next((n for n in names if n in calibration.parameters), "")
    values = {**EXPERT_PRIOR, **calibration.group(found)}
    if "local:" in names[0] and "local:" not in found:
        values["fixed_s"] *= _WITHOUT_ROUTING
    if "local:" in found and "local:" not in names[0]:
        values["fixed_s"] /= _WITHOUT_ROUTING
    return values


def shape_factor(calibration: Calibration, names: list[str], flat: _Flat) -> Array:
    """Residual of kernels that are tuned shape by shape, for shapes that were measured; 1 elsewhere."""
    table = calibration.parameters.get(SHAPES + next((n for n in names if n in calibration.parameters), ""))
    if not table:
        return np.ones_like(flat.rows)
    shapes = np.stack([flat.experts, flat.inter, flat.hidden])
    if bool((shapes == shapes[:, :1]).all()):
        return np.full_like(flat.rows, table.get(shape_name(*(float(x) for x in shapes[:, 0])), 1.0))
    kinds, place = np.unique(shapes, axis=1, return_inverse=True)
    found = [table.get(shape_name(*(float(x) for x in kind)), 1.0) for kind in kinds.T]
    return np.asarray(found, dtype=np.float64)[np.ravel(place)]


def shape_name(experts: float, inter: float, hidden: float) -> str:
    """Name of a shape of local experts in a calibration file."""
    return f"{experts:g}/{inter:g}/{hidden:g}"


def expert_names(key: str, context: str) -> list[str]:
    """Calibration groups from nearest to farthest; kernels after a dispatch stand in where nothing else is there."""
    names = candidate_names(key, context)
    return names if "local:" in key else names + candidate_names(f"local:{key.rpartition(':')[2]}", context)


def flat_experts(moe: ExpertMlp) -> tuple[tuple[int, ...], _Flat]:
    """Broadcast shape of the fields and them as flat arrays (rows and experts at least a thousandth and one)."""
    given = (moe.rows, moe.experts, moe.hidden, moe.inter, moe.skew, moe.tokens)
    sizes: list[Array] = [np.asarray(x, dtype=np.float64) for x in given]
    if len({x.shape for x in sizes}) > 1:
        sizes = list(np.broadcast_arrays(*sizes))
    rows, experts, hidden, inter, skew, tokens = sizes
    flat = _Flat(
        np.maximum((rows * skew).ravel(), 1e-3),
        np.maximum(experts.ravel(), 1.0),
        np.maximum(hidden.ravel(), 1.0),
        np.maximum(inter.ravel(), 1.0),
        np.where(tokens > 0.0, tokens, rows * skew).ravel(),
    )
    return rows.shape, flat


def expert_coordinates(moe: ExpertMlp, flat: _Flat) -> list[Array]:
    """Coordinates of the residual surface (EXPERT_AXES)."""
    alpha = np.full_like(flat.rows, power_law_exponent(moe.distribution))
    per_expert = np.log2(flat.rows / flat.experts)
    return [per_expert, np.log2(flat.experts), np.log2(flat.inter), np.log2(flat.hidden), alpha]


def expert_terms(chip: Chip, parameters: Mapping[str, float], moe: ExpertMlp, flat: _Flat) -> GemmCost:
    """The physical formula alone. Fields are flat [N]."""
    stored = number_format(moe.weight_dtype or moe.dtype).bytes_per_element
    size = number_format(moe.dtype).bytes_per_element
    width = flat.inter * (2.0 if moe.gated else 1.0)
    loads, used = _loads(moe, flat)
    bandwidth = chip.memory_bytes_per_s * parameters["memory"]
    products = ((width, flat.hidden), (flat.hidden, flat.inter))
    cores = [_cores_s(chip, parameters, moe, (loads, used, n, k)) for n, k in products]
    weights = [used.sum(axis=0) * n * k * stored for n, k in products]
    work = sum(smooth_maximum(c, w / bandwidth, parameters["sharpness"]) for c, w in zip(cores, weights, strict=True))
    rows_bytes = flat.rows * (flat.hidden * (2.0 * size + 2.0) + width * 2.0 + flat.inter * (2.0 + size))
    rows_s = rows_bytes / bandwidth * parameters["rows"]
    fixed = np.full_like(rows_s, parameters["fixed_s"])
    if moe.routing:
        rows_s = rows_s + flat.tokens * flat.hidden * 4.0 / bandwidth * parameters["tokens"]
        fixed = fixed + flat.tokens * parameters["token_s"]
    scale = parameters["scale"]
    return GemmCost(
        time_s=fixed + (work + rows_s) * scale,
        compute_s=(cores[0] + cores[1]) * scale,
        memory_s=((weights[0] + weights[1]) / bandwidth + rows_s) * scale,
        overhead_s=fixed,
        flop=2.0 * flat.rows * flat.hidden * (width + flat.inter),
        bytes=weights[0] + weights[1] + rows_bytes,
    )


def power_law_exponent(distribution: str) -> float:
    """0 for balanced and uniform, alpha for power_law_<alpha>. Raises UnknownName."""
    if distribution in ("balanced", "uniform"):
        return 0.0
    head, _, alpha = distribution.rpartition("_")
    try:
        if head != "power_law" or not 0.0 < float(alpha) < 5.0:
            raise ValueError(alpha)
    except ValueError:
        legal = ["balanced", "uniform", "power_law_1.01", "power_law_1.2"]
        raise UnknownName("distribution of rows over experts", distribution, legal) from None
    return float(alpha)


def _class_shares(alpha: float) -> Array:
    """Load of each class of experts over the mean load: quantiles of a power law x^-alpha on [1, SPREAD^alpha...]."""
    if alpha == 0.0:
        return np.ones(1)
    u = (np.arange(CLASSES * 16) + 0.5) / (CLASSES * 16)
    top = SPREAD_OVER_MEAN * 10.0
    power = 1.0 - alpha if abs(alpha - 1.0) > 1e-6 else 1e-6
    x = ((top**power - 1.0) * u + 1.0) ** (1.0 / power)
    classes = x.reshape(CLASSES, 16).mean(axis=1)
    return np.asarray(classes / classes.mean())


def _loads(moe: ExpertMlp, flat: _Flat) -> tuple[Array, Array]:
    """Rows of a used expert [classes, N] and number of used experts [classes, N]."""
    share = _class_shares(power_law_exponent(moe.distribution))[:, None]
    expected = share * (flat.rows / flat.experts)
    chance = np.minimum(expected, 1.0) if moe.distribution == "balanced" else -np.expm1(-expected)
    return expected / chance, chance * flat.experts / len(share)


def _cores_s(chip: Chip, p: Mapping[str, float], moe: ExpertMlp, product: tuple[Array, Array, Array, Array]) -> Array:
    """Seconds on the cores of one grouped product (loads, used experts, n, k) with the best tile. Returns [N]."""
    loads, used, n, k = product
    out = np.empty(len(n))
    for start in range(0, len(n), _CHUNK):
        part = slice(start, start + _CHUNK)
        out[part] = _best(chip, p, moe, (loads[:, part], used[:, part], n[part], k[part]))
    return out


@lru_cache(maxsize=8)
def _tiles(scale: float) -> tuple[Array, Array]:
    """(rows, columns) of the choices as columns [choices, 1]."""
    tall, wide = scaled_tiles(_TILES, scale).T[:, :, None]
    return tall, wide


def _best(chip: Chip, p: Mapping[str, float], moe: ExpertMlp, product: tuple[Array, Array, Array, Array]) -> Array:
    loads, used, n, k = product
    tile_m, tile_n = _tiles(tile_scale(chip))
    filled = loads[:, None, :] / tile_m
    filled = np.ceil(filled) if moe.distribution == "balanced" else np.maximum(1.0, filled + 0.5)
    tiles = (filled * used[:, None, :]).sum(axis=0) * np.ceil(n / tile_n)
    share = tiles / chip.matrix_cores
    waves = p["quantisation"] * np.ceil(share) + (1.0 - p["quantisation"]) * np.maximum(share, 1.0)
    size = number_format(moe.dtype).bytes_per_element
    stored = number_format(moe.weight_dtype or moe.dtype).bytes_per_element
    peak = chip.peak(number_format(moe.dtype).rate) * p["multiply"]
    multiply = 2.0 * tile_m * tile_n * chip.matrix_cores / peak
    load = (tile_m * size + tile_n * stored) * chip.matrix_cores / (chip.l2_bytes_per_s * p["load"])
    return np.asarray((waves * (k * np.maximum(multiply, load) + p["prologue_s"])).min(axis=0))
