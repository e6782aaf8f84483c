"""Residual surfaces: a piecewise-multilinear correction of a physical formula, in log2 of the shape.

A surface holds ln(measured / formula) at coarse knots. Between knots it interpolates linearly in every coordinate;
outside it holds the value of the border (no extrapolation of a trend). A surface of zeros changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from supertwin.core.errors import TableError

Array = npt.NDArray[np.float64]
_UNIT = 0.004  # resolution of stored values in ln units: 0.4 %, below the noise of any kernel timing


_PIECE = 1 << 15  # points at a time: corners x points stay in the cache


@dataclass(frozen=True, slots=True)
class Surface:
    """ln factor over axes. knots[d]: increasing coordinates of axis d; values: [len(knots[0]), len(knots[1]), ...]."""

    axes: tuple[str, ...]
    knots: tuple[Array, ...]
    values: Array

    def log_factor(self, coordinates: Sequence[npt.ArrayLike]) -> Array:
        """ln factor at points; coordinates: one array per axis, broadcastable. Returns their broadcast shape."""
        flat = self.values.ravel()
        points: Sequence[Array] = [np.asarray(c, dtype=np.float64) for c in coordinates]
        if len({x.shape for x in points}) > 1:
            points = np.broadcast_arrays(*points)
        bent = [axis for axis, knot in enumerate(self.knots) if len(knot) > 1]
        if len(bent) <= 1:
            line = np.interp(points[bent[0]], self.knots[bent[0]], flat) if bent else np.full(points[0].shape, flat[0])
            return np.asarray(line)
        # lowest corner of the cell of each point; all corners, in front of the points: steps from it and weights
        lowest, steps, weights = np.zeros(points[0].shape, dtype=np.int64), [0], np.ones((1, *points[0].shape))
        stride = flat.size
        for knot, x in zip(self.knots, points, strict=True):
            stride //= len(knot)
            if len(knot) == 1:
                continue
            position = np.interp(x, knot, np.arange(float(len(knot))))
            low = np.minimum(position.astype(np.int64), len(knot) - 2)
            share = position - low
            lowest += stride * low
            steps += [step + stride for step in steps]
            weights = np.concatenate((weights * (1.0 - share), weights * share))
        index = np.array(steps).reshape(-1, *[1] * lowest.ndim) + lowest
        return np.asarray((flat[index] * weights).sum(axis=0))

    def factor(self, coordinates: Sequence[npt.ArrayLike]) -> Array:
        """exp(log_factor): the number that multiplies the formula's time. Long arrays are done in pieces (memory)."""
        longest = max(np.size(c) for c in coordinates)
        if longest <= _PIECE:
            return np.asarray(np.exp(self.log_factor(coordinates)))
        flat = [c.ravel() for c in np.broadcast_arrays(*coordinates)]
        shape = np.broadcast_shapes(*(np.shape(c) for c in coordinates))
        starts = range(0, len(flat[0]), _PIECE)
        pieces = [self.log_factor([c[start : start + _PIECE] for c in flat]) for start in starts]
        return np.asarray(np.exp(np.concatenate(pieces))).reshape(shape)

    def to_json(self) -> dict[str, Any]:
        """Compact form: values as integers in units of 0.004 (ln)."""
        return {
            "axes": list(self.axes),
            "knots": [[round(float(x), 4) for x in k] for k in self.knots],
            "unit": _UNIT,
            "values": [round(float(v) / _UNIT) for v in self.values.ravel()],
        }


def surface_from_json(given: Mapping[str, Any], where: str) -> Surface:
    """Inverse of `Surface.to_json`. Raises TableError (naming `where`) when shapes or order of knots are wrong."""
    try:
        knots = tuple(np.asarray(k, dtype=np.float64) for k in given["knots"])
        values = np.asarray(given["values"], dtype=np.float64) * float(given["unit"])
        surface = Surface(tuple(given["axes"]), knots, values.reshape([len(k) for k in knots]))
    except (KeyError, TypeError, ValueError) as error:
        raise TableError(f"{where}: not a residual surface (axes, knots, unit, values): {error}") from None
    if len(surface.axes) != len(knots) or any(np.any(np.diff(k) <= 0) for k in knots):
        raise TableError(f"{where}: a surface needs one increasing list of knots per axis")
    if not np.all(np.isfinite(values)):
        raise TableError(f"{where}: a surface holds a value that is not a finite number")
    return surface


def corners(knots: Sequence[Array], coordinates: Sequence[npt.ArrayLike]) -> list[tuple[npt.NDArray[np.int64], Array]]:
    """Corners of the cell that each point lies in: flat index into the values and multilinear weight.

    2^d pairs for d axes with more than one knot. Weights of a point add up to 1. Used to evaluate and to fit.
    """
    shape = [len(k) for k in knots]
    strides = [int(np.prod(shape[d + 1 :], dtype=np.int64)) for d in range(len(shape))]
    sides: list[list[tuple[npt.NDArray[np.int64], Array]]] = []
    for knot, coordinate, stride in zip(knots, coordinates, strides, strict=True):
        x = np.asarray(coordinate, dtype=np.float64)
        if len(knot) == 1:
            sides.append([(np.zeros(x.shape, dtype=np.int64), np.ones(x.shape))])
            continue
        low = np.clip(np.searchsorted(knot, x, side="right") - 1, 0, len(knot) - 2)
        share = np.clip((x - knot[low]) / (knot[low + 1] - knot[low]), 0.0, 1.0)
        sides.append([(low * stride, 1.0 - share), ((low + 1) * stride, share)])
    out = []
    for choice in product(*sides):
        index, weight = choice[0]
        for step, part in choice[1:]:
            index, weight = index + step, weight * part
        out.append((index, weight))
    return out
