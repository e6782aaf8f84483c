"""Fit of point-to-point engines: fixed cost and rate per path, with paths tied together where that predicts better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from supertwin.calibration.common import require_scipy
from supertwin.network.transfer import FIRST_BLOCK_BYTES

Array = npt.NDArray[np.float64]
TIES = ("one", "ends", "path")  # one curve; one per pair of ends; one per pair of ends and direction
FOLDS = 4
ROBUST_SCALE = 0.05


@dataclass(frozen=True, slots=True)
class Block:
    """One measured block: ends ("device-host"), way (read or write), bytes, seconds."""

    ends: str
    way: str
    message_bytes: float
    seconds: float


@dataclass(frozen=True, slots=True)
class TransferFit:
    """Constants by "<ends>/<way>", the tie chosen, and the absolute log errors when left out of the fit."""

    groups: dict[str, dict[str, float]]
    tie: str
    left_out: Array


def fit_engine(blocks: Sequence[Block]) -> TransferFit:
    """Fit one engine in one scope. The tie and the first-block factor are chosen by cross-validation over FOLDS."""
    choices = [(tie, first) for tie in TIES for first in (False, True)]
    scored = [(_cross_validate(blocks, tie, first), tie, first) for tie, first in choices]
    errors, tie, first = min(scored, key=lambda c: float(np.mean(c[0])))
    x = _solve(blocks, tie, first, np.ones(len(blocks), dtype=bool))
    keys = _keys(blocks, tie)
    groups = {}
    for ends, way in sorted({(b.ends, b.way) for b in blocks}):
        index = keys.index(_key(ends, way, tie))
        values = {"fixed_s": x[index], "bytes_per_s": x[len(keys) + index], "sharpness": x[2 * len(keys)]}
        if first:
            values["first_factor"] = x[-1]
        groups[f"{ends}/{way}"] = {name: float(f"{value:.4g}") for name, value in values.items()}
    return TransferFit(groups, tie, errors)


def _key(ends: str, way: str, tie: str) -> str:
    return {"one": "", "ends": ends, "path": f"{ends}/{way}"}[tie]


def _keys(blocks: Sequence[Block], tie: str) -> list[str]:
    return sorted({_key(b.ends, b.way, tie) for b in blocks})


def _cross_validate(blocks: Sequence[Block], tie: str, first: bool) -> Array:
    fold = np.random.default_rng(0).permutation(len(blocks)) % FOLDS
    out = np.empty(len(blocks))
    for part in range(FOLDS):
        x = _solve(blocks, tie, first, fold != part)
        error = np.abs(np.log(_model(blocks, tie, first, x) / np.array([b.seconds for b in blocks])))
        out[fold == part] = error[fold == part]
    return out


def _model(blocks: Sequence[Block], tie: str, first: bool, x: Array) -> Array:
    keys = _keys(blocks, tie)
    index = np.array([keys.index(_key(b.ends, b.way, tie)) for b in blocks])
    size = np.array([b.message_bytes for b in blocks])
    p = x[2 * len(keys)]
    time: Array = (x[index] ** p + (size / x[len(keys) + index]) ** p) ** (1 / p)
    return np.where(size <= FIRST_BLOCK_BYTES, time * x[-1], time) if first else time


def _solve(blocks: Sequence[Block], tie: str, first: bool, used: npt.NDArray[np.bool_]) -> Array:
    scipy = require_scipy()
    keys = _keys(blocks, tie)
    index = np.array([keys.index(_key(b.ends, b.way, tie)) for b in blocks])
    size = np.array([b.message_bytes for b in blocks])
    seconds = np.array([b.seconds for b in blocks])
    fixed, rate = np.full(len(keys), 3e-6), np.full(len(keys), 3e10)
    for k in range(len(keys)):
        mine = (index == k) & used
        if mine.any():
            fixed[k], rate[k] = seconds[mine].min(), 1.02 * (size[mine] / seconds[mine]).max()
    start = np.log(np.concatenate([fixed, rate, [2.0], [1.0] if first else []]))
    low = np.log(np.concatenate([fixed / 30, rate / 3, [1.0], [0.1] if first else []]))
    high = np.log(np.concatenate([fixed * 10, rate * 3, [12.0], [10.0] if first else []]))

    def residual(z: Array) -> Array:
        out: Array = np.log(_model(blocks, tie, first, np.exp(z))[used] / seconds[used])
        return out

    found = scipy.optimize.least_squares(
        residual, start, bounds=(low, high), loss="soft_l1", f_scale=ROBUST_SCALE, max_nfev=80
    )
    solved: Array = np.exp(found.x)
    return solved
