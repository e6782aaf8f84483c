"""How a matrix product spreads over the matrix cores: tiles, split-K and waves.

A product C[m,n] = A[m,k] B[k,n] is cut into tiles of tile_m x tile_n; split-K cuts the contraction as well. Every core
computes one tile at a time; the last wave is partly empty. Libraries pick the tile by a heuristic that is close to the
best choice, so the formula takes the fastest of a small set. Tile and wave quantisation: NVIDIA, "Matrix Multiplication
Background User's Guide" (DU-09800), sections 3 and 4; split-K and stream-K: Osama et al., arXiv:2301.03598.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from supertwin.cost.surface import Array
from supertwin.machine.chip import Chip

_TILES = ((16, 64), (16, 128), (32, 128), (64, 64), (64, 128), (64, 256), (128, 64), (128, 128), (128, 256), (256, 128))
_SPLITS = (1, 2, 4, 8)
_CHOICES = np.array([(m, n, s) for m, n in _TILES for s in _SPLITS if s == 1 or m * n <= 128 * 128], dtype=np.float64)
_REFERENCE_FLOP_PER_S = (
    12e12  # BF16 rate of one core that the tiles above fit (H100 7.5, B200 15, Ascend 910C 15 TFLOP/s)
)
_SPARE = 4  # places per product of the table in which distinct ones are found
_CHUNK = 1 << 11  # elements per pass: choices x chunk doubles stay in the cache of the machine that runs this


@dataclass(frozen=True, slots=True)
class CoreRates:
    """What one matrix core achieves.

    flop_per_s: multiply-add rate in the main loop; load_bytes_per_s: operands from L2; prologue_s: filling the pipeline
    and writing the tile, once per wave; split_s: joining the parts of a split contraction;
    quantisation: 1 = whole waves, 0 = work spreads evenly (stream-K, uneven clocks);
    tile_scale: side of this core's tiles over that of a GPU multiprocessor's (see `tile_scale`). All but cores and
    tile_scale may be arrays [N], one value per product.
    """

    cores: float
    flop_per_s: Array | float
    load_bytes_per_s: Array | float
    prologue_s: Array | float
    split_s: Array | float
    quantisation: Array | float
    tile_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Extent:
    """Shape of a product (flat arrays of one length [N]) and bytes per element of its operands as loaded (or [N])."""

    m: Array
    n: Array
    k: Array
    groups: Array
    a_bytes: Array | float
    b_bytes: Array | float


Whole = TypeVar("Whole", CoreRates, Extent)
Rows = npt.NDArray[np.intp]


def tile_scale(chip: Chip) -> float:
    """1 for multiprocessors and Ascend cube cores (4 to 15 TFLOP/s of BF16 each); 4 for the few large matrix engines
    of Gaudi and TPU: tiles grow with the square root of the rate (power of two, at most 4).
    """
    rate = chip.peak("bf16") / chip.matrix_cores
    return float(2.0 ** min(max(round(0.5 * math.log2(rate / _REFERENCE_FLOP_PER_S)), 0), 2))


def scaled_tiles(choices: Array, scale: float) -> Array:
    """Choices (tile_m, tile_n, ...) with the larger tiles of a larger core added: a core can always do the smaller."""
    larger = [choices * np.array([f, f, *[1.0] * (choices.shape[1] - 2)]) for f in (2.0, 4.0) if f <= scale]
    return np.concatenate([choices, *larger])


def wave_time_s(extent: Extent, rates: CoreRates) -> Array:
    """Seconds on the cores with the best tile, memory not counted. Returns [N]."""
    total = len(extent.m)
    if total <= _CHUNK:
        return _best(extent, rates)
    found = _distinct(extent, rates)
    if found is not None:
        some, index = found
        return wave_time_s(_cut(extent, some), rates)[index]
    parts = [slice(start, start + _CHUNK) for start in range(0, total, _CHUNK)]
    return np.concatenate([_best(_cut(extent, part), _cut(rates, part)) for part in parts])


def _distinct(extent: Extent, rates: CoreRates) -> tuple[Rows, Rows] | None:
    """(products that stand for all others, index of each product's stand-in), where far fewer are distinct: rows count
    in steps of the smallest tile, of which all others are whole multiples. None where they are not, or cannot be
    compared cheaply: neighbours in a table of sweeps differ in their rows alone."""
    fixed = (extent.a_bytes, extent.b_bytes, *(getattr(rates, field.name) for field in fields(rates)))
    if any(isinstance(x, np.ndarray) for x in fixed):
        return None
    new = np.logical_or.reduce([x[1:] != x[:-1] for x in (extent.n, extent.k, extent.groups)])
    tall = np.ceil(extent.m / _TILES[0][0])
    width = int(tall.max()) + 1
    if (int(np.count_nonzero(new)) + 1) * width > _SPARE * len(tall):
        return None
    code = tall.astype(np.intp)
    code[1:] += np.cumsum(new) * width
    place = np.zeros(int(code.max()) + 1, dtype=np.intp)
    place[code] = 1
    distinct = np.flatnonzero(place)
    if 2 * len(distinct) > len(tall):
        return None
    place[distinct] = np.arange(len(distinct))
    index = place[code]
    some = np.empty(len(distinct), dtype=np.intp)
    some[index] = np.arange(len(index))
    return some, index


def _cut(whole: Whole, part: slice | Rows) -> Whole:
    """Some of the products: arrays are cut, numbers hold for all."""
    given = {field.name: getattr(whole, field.name) for field in fields(whole)}
    cut: dict[str, Any] = {name: value[part] for name, value in given.items() if isinstance(value, np.ndarray)}
    return replace(whole, **cut)


def _best(extent: Extent, rates: CoreRates) -> Array:
    """Time of the best choice. Few rows, columns and splits are distinct; whole tables are changed in place."""
    grid = _grid(rates.tile_scale)
    (tall, row), (wide, column), (parts, cut) = grid.rows, grid.columns, grid.parts
    share = np.ceil(extent.m / tall)[row]
    share *= np.ceil(extent.n / wide)[column]
    share *= (extent.groups * parts)[cut]
    share /= rates.cores
    time = np.ceil(share)
    time *= rates.quantisation
    np.maximum(share, 1.0, out=share)
    share *= 1.0 - rates.quantisation
    time += share
    multiply = (2.0 / rates.flop_per_s) * (grid.tile_m * grid.tile_n)
    load = (grid.tile_m * extent.a_bytes + grid.tile_n * extent.b_bytes) / rates.load_bytes_per_s
    wave = (extent.k / parts)[cut]
    wave *= np.maximum(multiply, load)
    wave += rates.prologue_s
    time *= wave
    time += np.where(grid.split > 1.0, rates.split_s * (1.0 + np.log2(grid.split)), 0.0)
    return np.asarray(time.min(axis=0))


@dataclass(frozen=True, slots=True)
class _Grid:
    """Choices as columns [choices, 1], and their distinct values [distinct, 1] with the index that restores them."""

    tile_m: Array
    tile_n: Array
    split: Array
    rows: tuple[Array, npt.NDArray[np.intp]]
    columns: tuple[Array, npt.NDArray[np.intp]]
    parts: tuple[Array, npt.NDArray[np.intp]]


@lru_cache(maxsize=8)
def _grid(scale: float) -> _Grid:
    choices = scaled_tiles(_CHOICES, scale).T[:, :, None]
    distinct = [np.unique(column, return_inverse=True) for column in choices[:, :, 0]]
    return _Grid(*choices, *((values[:, None], index) for values, index in distinct))
