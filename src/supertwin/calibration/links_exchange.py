"""Fit of dispatch and combine kernels (network.exchange) on measured exchanges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from supertwin.calibration.common import require_scipy
from supertwin.network.exchange import Exchange, evaluate_exchange
from supertwin.network.span import Level

Array = npt.NDArray[np.float64]
ROBUST_SCALE = 0.08
STARTS = 3
DEFAULT_SMS = 20.0  # DeepEP's default number of communication cores

# name -> (start, least, most); seconds, bytes per second or shares
RANGES: Mapping[str, tuple[float, float, float]] = {
    "fixed_s": (1e-5, 1e-6, 1e-3),
    "efficiency": (0.6, 0.02, 1.0),
    "sm_bytes_per_s": (18e9, 1e9, 2e11),
    "expert_bytes_per_s": (3e9, 1e8, 1e12),
    "expert_s": (1e-9, 1e-12, 1e-6),
    "rank_s": (1e-8, 1e-11, 5e-5),
    "message_s": (5e-9, 1e-13, 1e-6),
    "token_s": (1e-9, 1e-13, 1e-6),
    "wait_s": (1e-6, 1e-9, 1e-4),
    "outer_efficiency": (0.85, 0.05, 1.0),
    "outer_fixed_s": (1e-5, 1e-7, 1e-3),
    "outer_hop_s": (3e-6, 1e-8, 1e-4),
    "outer_crowding": (0.5, 1e-3, 3.0),
    "sharpness": (1.0, 0.6, 6.0),
}


@dataclass(frozen=True, slots=True)
class ExchangeSample:
    """Measured exchanges of one group: levels, the call with arrays of shapes [rows], seconds and weight [rows]."""

    levels: tuple[Level, ...]
    call: Exchange
    seconds: Array


def fit_exchange(
    samples: Sequence[ExchangeSample], mode: str, names: Sequence[str], known: Mapping[str, float]
) -> dict[str, float]:
    """Find the named constants; the others are known. Robust least squares on ln(time), several starts.

    Without samples the named constants keep their starting values.
    """
    scipy = require_scipy()
    if not samples:
        return {**known, **{n: RANGES[n][0] for n in names}}
    measured = np.log(np.concatenate([s.seconds for s in samples]))
    start, low, high = (np.log([RANGES[n][i] for n in names]) for i in range(3))

    def constants(x: Array) -> dict[str, float]:
        return {**known, **{n: float(np.exp(v)) for n, v in zip(names, x, strict=True)}}

    def residual(x: Array) -> Array:
        out: Array = np.log(predict_exchange(samples, mode, constants(x))) - measured
        return out

    best = None
    for attempt in range(STARTS):
        noise = np.random.default_rng(attempt).normal(0.0, 0.4, len(start)) if attempt else 0.0
        begin = np.clip(start + noise, low + 1e-6, high - 1e-6)
        found = scipy.optimize.least_squares(
            residual, begin, bounds=(low, high), loss="soft_l1", f_scale=ROBUST_SCALE, max_nfev=60
        )
        if best is None or found.cost < best.cost:
            best = found
    assert best is not None
    return {n: float(f"{v:.4g}") for n, v in constants(best.x).items()}


def predict_exchange(samples: Sequence[ExchangeSample], mode: str, constants: Mapping[str, float]) -> Array:
    """Seconds of every row, samples concatenated."""
    times = (evaluate_exchange(constants, s.levels, s.call, mode).time_s for s in samples)
    return np.concatenate([np.broadcast_to(t, s.seconds.shape) for t, s in zip(times, samples, strict=True)])
