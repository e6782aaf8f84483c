"""Measure the processor of this machine with numpy, and write it as a chip, a system and calibration files.

Matrix products over a grid of shapes, streaming copies and adds over sizes, norms, softmax and activations, and the
cost of a small call. The same formulas are fitted as for any other chip, with a third of the shapes held out.
"""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from supertwin.calibration.common import errors, fit_surface, held_out, require_scipy, spread_90, write_calibration
from supertwin.calibration.gemm_files import content, residuals
from supertwin.calibration.gemm_fit import held_out_rows, predict_parts
from supertwin.calibration.local_files import LocalPeaks, write_chip, write_system
from supertwin.calibration.tables import GemmRows
from supertwin.calibration.vector_fit import VectorRows, fit_class, predict
from supertwin.cost.calibration import Calibration
from supertwin.cost.gemm import PRIOR, GemmConditions
from supertwin.cost.geometry import Array
from supertwin.cost.surface import Surface
from supertwin.cost.vector import VectorWork
from supertwin.machine.chip import Chip
from supertwin.machine.chips import load_chip
from supertwin.workload.operators import Gemm

NAME = "this-cpu"
_SOURCE = "numpy on this machine"
_GEMM_BOUNDS = {
    "multiply": (0.3, 1.1),
    "load": (0.02, 5.0),
    "memory": (0.1, 3.0),
    "prologue_s": (1e-8, 1e-4),
    "fixed_s": (1e-7, 1e-4),
    "sharpness": (1.0, 8.0),
}
_FAMILY_SPREAD = 0.1  # smallest spread that is believed of a shared machine


@dataclass(frozen=True, slots=True)
class LocalCalibration:
    """What was written: chip (and system) file to name with --on or --chip, the folder for SUPERTWIN_CALIBRATION.

    residuals: by family, errors on fitted and held-out shapes.
    """

    chip: str
    chip_file: str
    system_file: str
    folder: str
    date: str
    peaks: Mapping[str, float]
    residuals: Mapping[str, Mapping[str, float]]
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure. seconds: per point."""

    gemm: tuple[tuple[int, ...], tuple[int, ...]]
    sizes: tuple[int, ...]
    seconds: float


FULL = Effort(((1, 4, 16, 48, 128, 384, 1024), (128, 256, 640, 1024, 2048)), tuple(2**p for p in range(8, 25)), 0.02)
QUICK = Effort(((1, 16, 128, 512), (128, 512, 1024)), tuple(2**p for p in range(8, 24, 3)), 0.008)


def calibrate_local(out_dir: Path | str, quick: bool = False) -> LocalCalibration:
    """Measure for less than a minute (10 s with quick) and write the files under out_dir. Raises MissingExtra.

    Use the result with `--on <out_dir>/this-cpu-system.toml`, with SUPERTWIN_CALIBRATION=<out_dir> in the environment
    unless out_dir is the user's own calibration folder.
    """
    began = time.perf_counter()
    out, effort = Path(out_dir), QUICK if quick else FULL
    date = datetime.date.today().isoformat()
    products = measure_gemm(effort)
    streams = measure_vectors(effort)
    peaks = find_peaks(products, streams)
    out.mkdir(parents=True, exist_ok=True)
    chip_file = write_chip(out / f"{NAME}.toml", peaks, date)
    system_file = write_system(out / f"{NAME}-system.toml", chip_file, peaks, date)
    chip = load_chip(chip_file)
    found = {"gemm": _fit_gemm(chip, products, out, date), "vector": _fit_vector(chip, streams, out, date)}
    _write_launch(chip, peaks, out, date)
    return LocalCalibration(
        chip=chip.name,
        chip_file=str(chip_file),
        system_file=str(system_file),
        folder=str(out),
        date=date,
        peaks=peaks.as_fields(),
        residuals=found,
        elapsed_s=time.perf_counter() - began,
    )


def timed(call: Callable[[], object], seconds: float) -> float:
    """Shortest of the calls made in about `seconds`, after one to warm up; up to 12 times as long until two agree.

    The shortest, because other work on the machine only adds, and a preempted thread of a library adds milliseconds.
    """
    call()
    first = second = np.inf
    calls, start = 0, time.perf_counter()
    while True:
        begin = time.perf_counter()
        call()
        now = time.perf_counter()
        first, second = sorted((first, second, now - begin))[:2]
        calls += 1
        agree = calls >= 5 and second < 1.2 * first
        if now - start > (seconds if agree else 12.0 * seconds) or calls >= 2000:
            return float(first)


def measure_gemm(effort: Effort) -> GemmRows:
    """FP32 products of all m and all (n, k) of the grid."""
    rows, wide = effort.gemm
    random = np.random.default_rng(0)
    shapes = [(m, n, k) for m in rows for n in wide for k in wide]
    seconds = []
    for m, n, k in shapes:
        a = random.standard_normal((m, k), dtype=np.float32)
        b = random.standard_normal((k, n), dtype=np.float32)
        out = np.empty((m, n), dtype=np.float32)
        seconds.append(timed(lambda a=a, b=b, out=out: np.matmul(a, b, out=out), effort.seconds))  # type: ignore[misc]
    m_, n_, k_ = np.array(shapes, dtype=np.float64).T
    gemm = Gemm(part="gemm", m=m_, n=n_, k=k_, groups=np.ones_like(m_), dtype="fp32", out_dtype="fp32")
    return GemmRows(NAME, "", gemm, np.array(seconds), GemmConditions(weights_cold=False), source=_SOURCE)


def measure_vectors(effort: Effort) -> list[VectorRows]:
    """Copy, add, activation (one pass each), norm and softmax (several passes) of FP32 arrays."""
    kinds: dict[str, tuple[Callable[[Array, Array, Array], object], float, float]] = {
        "copy": (lambda x, _y, out: np.copyto(out, x), 2.0, 0.0),
        "add": (lambda x, y, out: np.add(x, y, out=out), 3.0, 1.0),
        "activation": (lambda x, y, out: np.multiply(x, y, out=out), 3.0, 1.0),
        "norm": (_norm, 2.0, 4.0),
        "softmax": (_softmax, 2.0, 8.0),
    }
    random = np.random.default_rng(0)
    rows = []
    for op, (call, passes, flop) in kinds.items():
        seconds = []
        for size in effort.sizes:
            x, y = (random.standard_normal((max(size // 512, 1), min(size, 512)), dtype=np.float32) for _ in range(2))
            out = np.empty_like(x)
            seconds.append(timed(lambda c=call, x=x, y=y, out=out: c(x, y, out), effort.seconds))  # type: ignore[misc]
        values = np.array(effort.sizes, dtype=np.float64)
        work = VectorWork(passes * 4.0 * values, flop * values, np.zeros_like(values), np.zeros_like(values))
        rows.append(VectorRows(op, "", work, np.array(seconds), held_out(values)))
    return rows


def _norm(x: Array, y: Array, out: Array) -> None:
    scale = 1.0 / np.sqrt(np.einsum("ij,ij->i", x, x) / x.shape[1] + 1e-6)
    np.multiply(x, scale[:, None], out=out)
    np.multiply(out, y[0], out=out)


def _softmax(x: Array, _y: Array, out: Array) -> None:
    np.subtract(x, x.max(axis=1, keepdims=True), out=out)
    np.exp(out, out=out)
    np.divide(out, out.sum(axis=1, keepdims=True), out=out)


def find_peaks(products: GemmRows, streams: list[VectorRows]) -> LocalPeaks:
    """Best rates seen: what the shares of the formulas refer to."""
    g = products.gemm
    rate = 2.0 * np.asarray(g.m) * np.asarray(g.n) * np.asarray(g.k) / products.time_s
    plain = [s for s in streams if s.op in ("copy", "add", "activation")]
    speeds = [s.work.bytes / s.measured_s for s in plain]
    return LocalPeaks(
        flop_per_s=float(rate.max()),
        vector_flop_per_s=float(max((s.work.flop / s.measured_s).max() for s in streams)),
        memory_bytes_per_s=float(max(speed[-1] for speed in speeds)),
        cache_bytes_per_s=float(max(speed.max() for speed in speeds)),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        call_s=float(min(s.measured_s.min() for s in plain)),
    )


def _fit_gemm(chip: Chip, rows: GemmRows, out: Path, date: str) -> dict[str, float]:
    train = rows.take(~held_out_rows(rows))
    parameters = _gemm_constants(chip, train)
    surface = _gemm_residual(chip, train, parameters)
    calibration = Calibration(
        family="gemm",
        chip=chip.name,
        source_chip=chip.name,
        origin="user",
        data_sets=((_SOURCE, len(rows)),),
        parameters={"fp32": parameters, "bf16": parameters},
        surfaces={"fp32": surface, "bf16": surface},
    )
    residual = residuals(chip, calibration, [rows])
    write_calibration(out, content(calibration, residual, date))
    return residual


def _gemm_constants(chip: Chip, rows: GemmRows) -> dict[str, float]:
    """Least squares on ln time. A processor has other orders of magnitude than the bounds of the device fit allow."""
    scipy = require_scipy()
    low, high = np.log(np.array([_GEMM_BOUNDS[n] for n in _GEMM_BOUNDS])).T
    start = 0.5 * (low + high)
    prior = {**PRIOR, "quantisation": 0.1}

    def constants_of(x: Array) -> dict[str, float]:
        return {**prior, **{n: float(f"{v:.4g}") for n, v in zip(_GEMM_BOUNDS, np.exp(x), strict=True)}}

    def residual(x: Array) -> Array:
        formula, _, measured = predict_parts(chip, [rows], {**prior, **dict(zip(_GEMM_BOUNDS, np.exp(x), strict=True))})
        return np.concatenate([np.log(formula / measured), 0.02 * (x - start)])

    found = scipy.optimize.least_squares(residual, start, loss="soft_l1", f_scale=0.1, bounds=(low, high))
    return constants_of(found.x)


def _gemm_residual(chip: Chip, rows: GemmRows, parameters: Mapping[str, float]) -> Surface:
    formula, _, measured = predict_parts(chip, [rows], parameters)
    g = rows.gemm
    points = [np.log2(np.asarray(x)) for x in (g.m, g.n, g.k)]
    knots = {name: sorted({float(v) for v in axis}) for name, axis in zip("mnk", points, strict=True)}
    knots = {name: values if name == "m" else values[::2] for name, values in knots.items()}
    return fit_surface(knots, points, np.log(measured / formula), smoothness=0.3)


def _fit_vector(chip: Chip, streams: list[VectorRows], out: Path, date: str) -> dict[str, float]:
    parameters, times, measured = {}, [], []
    for rows in streams:
        constants, _surface = fit_class(chip, rows)
        parameters[rows.op] = {n: float(f"{v:.4g}") for n, v in constants.items()}
        times.append(predict(chip, rows, constants, None))
        measured.append(rows.measured_s[rows.test])
    held = errors(np.concatenate(times), np.concatenate(measured))
    spread = max(spread_90(np.concatenate(times), np.concatenate(measured)), _FAMILY_SPREAD)
    residual = {"held_out_median_ape": held["median_ape"], "p90": held["p90_ape"], "n_held_out": held["n"]}
    write_calibration(out, _file("vector", chip.name, date, parameters, residual, spread))
    return residual


def _write_launch(chip: Chip, peaks: LocalPeaks, out: Path, date: str) -> None:
    constants = {"issue_s": 0.0, "gap_s": 0.0, "start_s": peaks.call_s}
    parameters = dict.fromkeys(("eager", "graph", "compiled"), constants)
    write_calibration(out, _file("launch", chip.name, date, parameters, {}, 0.5))


def _file(
    family: str, chip: str, date: str, parameters: Mapping[str, Any], residual: Mapping[str, float], spread: float
) -> dict[str, Any]:
    return {
        "family": family,
        "chip": chip,
        "date": date,
        "data_sets": [{"name": _SOURCE, "rows": 1}],
        "parameters": parameters,
        "surface": {},
        "residual": dict(residual),
        "spread": round(spread, 4),
    }
