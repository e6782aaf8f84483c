"""Measure the processor of this machine with numpy, and write it as a chip, a system and calibration files.

Matrix products over a grid of shapes (weights in cache, and from memory), streaming operations over sizes, and the
cost of a small call. The same formulas are fitted as for any other chip, with a third of the shapes held out; a small
network, of which nothing is fitted, checks the result.
"""

from __future__ import annotations

import datetime
import math
import os
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from supertwin.calibration.common import require_scipy, write_calibration
from supertwin.calibration.gemm_files import content
from supertwin.calibration.local_files import LocalPeaks, write_chip, write_system
from supertwin.calibration.local_fit import Measured, fit_gemm, fit_vector, launch_content
from supertwin.calibration.local_measure import (
    MLP_BATCH,
    STREAMS,
    THREAD_VARIABLES,
    Effort,
    Timings,
    cache_bytes,
    measure,
    points,
)
from supertwin.core.errors import SupertwinError
from supertwin.cost.engine import CostEngine
from supertwin.machine.chip import Chip
from supertwin.machine.chips import load_chip
from supertwin.machine.fitted import ENVIRONMENT, calibration_folders
from supertwin.workload.operators import Gemm, Operator, Vector

NAME = "this-cpu"
CALM, MOST_NOISE = 0.15, 0.6  # noise (Timings.noise) above which there is a warning, and no result
Progress = Callable[[str], None]

FULL = Effort(
    rows=(1, 4, 16, 48, 128, 384, 1024),
    widths=(128, 256, 640, 1024, 2048),
    cold_rows=(1, 4, 64),
    cold_widths=(512, 1024, 1536, 2048),
    sizes=tuple(2**p for p in range(8, 25)),
    mlp=(1024, 2048, 512, 2048, 1024),
    seconds=0.01,
)
QUICK = Effort(
    rows=(1, 4, 16, 64, 256, 512),
    widths=(128, 512, 1024),
    cold_rows=(1, 4, 64),
    cold_widths=(512, 1024, 2048),
    sizes=tuple(2**p for p in range(8, 25, 2)),
    mlp=(512, 1024, 512),
    seconds=0.003,
)
# A second of it: whether several threads can be measured at all beside what else runs
PROBE = Effort((1, 16, 64), (128, 512, 1024), (), (), (2**12,), (128, 128), 0.002)


@dataclass(frozen=True, slots=True)
class LocalCalibration:
    """What was written and how far to trust it.

    folder: for SUPERTWIN_CALIBRATION; threads: of the numerical library while measuring; noise: how far repeated
    rounds differ; residuals: by family, errors on fitted and held-out shapes; check: a network of which nothing was
    fitted, measured and predicted; next: commands that use the result.
    """

    chip: str
    chip_file: str
    system_file: str
    folder: str
    date: str
    threads: int
    noise: float
    peaks: Mapping[str, float]
    residuals: Mapping[str, Mapping[str, float]]
    check: Mapping[str, float]
    warnings: tuple[str, ...]
    next: tuple[str, ...]
    elapsed_s: float


def calibrate_local(out_dir: Path | str, quick: bool = False, progress: Progress | None = None) -> LocalCalibration:
    """Measure for less than a minute (10 s with quick) and write the files under out_dir.

    progress: told what is under way. Raises MissingExtra, and SupertwinError when other programs disturb the machine
    so much that repeated rounds disagree.
    """
    require_scipy()
    began = time.perf_counter()
    out, effort = Path(out_dir), QUICK if quick else FULL
    date = datetime.date.today().isoformat()
    timings, warnings = measure_calmly(effort, progress or (lambda _text: None))
    measured = Measured.of(NAME, effort, timings)
    peaks = find_peaks(effort, timings)
    out.mkdir(parents=True, exist_ok=True)
    chip_file = write_chip(out / f"{NAME}.toml", peaks, date)
    system_file = write_system(out / f"{NAME}-system.toml", chip_file, peaks, date)
    chip = load_chip(chip_file)
    gemm, gemm_residual = fit_gemm(chip, measured.products)
    vector, vector_residual = fit_vector(chip, measured.streams, date)
    for calibration in (content(gemm, gemm_residual, date), vector, launch_content(chip.name, peaks.call_s, date)):
        write_calibration(out, calibration)
    return LocalCalibration(
        chip=chip.name,
        chip_file=str(chip_file),
        system_file=str(system_file),
        folder=str(out),
        date=date,
        threads=timings.threads,
        noise=timings.noise(),
        peaks=peaks.as_fields(),
        residuals={"gemm": gemm_residual, "vector": vector_residual},
        check=check_network(chip, effort, timings, out),
        warnings=tuple(warnings),
        next=_next(out, system_file, timings.threads),
        elapsed_s=time.perf_counter() - began,
    )


def measure_calmly(effort: Effort, progress: Progress) -> tuple[Timings, list[str]]:
    """Timings with all cores or, when other programs disturb that, with one; and warnings. Raises SupertwinError.

    A numerical library that splits a product over cores waits for the slowest: with another program on one of them, a
    product of microseconds takes a time slice of milliseconds, again and again. One thread is disturbed far less.
    """
    threads, warnings = wanted_threads(), []
    progress(f"measuring with {threads} thread{'s' if threads > 1 else ''}")
    timings = measure(PROBE, threads) if threads > 1 else None
    if timings is None or timings.noise() <= MOST_NOISE:
        timings = measure(effort, threads)
    if timings.noise() > CALM and threads > 1:
        progress(f"rounds differ by {100.0 * timings.noise():.0f} %: measuring with one thread")
        alone = measure(effort, 1)
        if alone.noise() < 0.5 * timings.noise() or timings.noise() > MOST_NOISE:
            warnings.append(
                f"other programs disturb {threads} threads (rounds differ by {100.0 * timings.noise():.0f} %); "
                "predictions hold for one thread: repeat on a quiet machine for all cores"
            )
            timings = alone
    noise = timings.noise()
    if noise > MOST_NOISE:
        raise SupertwinError(
            f"measurement too noisy: repeated rounds differ by {100.0 * noise:.0f} % (at most {100.0 * MOST_NOISE:.0f} "
            "% is accepted); close other programs and repeat"
        )
    if noise > CALM:
        warnings.append(f"noisy machine: repeated rounds differ by {100.0 * noise:.0f} %; the intervals are wider")
    return timings, warnings


def wanted_threads() -> int:
    """What the environment asks of the numerical library, else the cores that this process may use."""
    asked = next((os.environ[name] for name in THREAD_VARIABLES if os.environ.get(name, "").isdigit()), "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(int(asked), cores)) if asked else cores


def find_peaks(effort: Effort, timings: Timings) -> LocalPeaks:
    """Best rates seen: what the shares of the formulas refer to."""
    m, n, k = np.array(points(effort)["gemm"], dtype=np.float64).T
    sizes = np.array(effort.sizes, dtype=np.float64)
    plain = [4.0 * STREAMS[name].moved * sizes / timings.best(name) for name in ("copy", "add", "activation")]
    arithmetic = [stream.flop * sizes / timings.best(name) for name, stream in STREAMS.items()]
    read = 4.0 * np.prod(np.array(points(effort)["cold"], dtype=np.float64)[:, 1:], axis=1)
    reading = read / timings.best("cold")
    return LocalPeaks(
        flop_per_s=float((2.0 * m * n * k / timings.best("gemm")).max()),
        vector_flop_per_s=float(np.concatenate(arithmetic).max()),
        memory_bytes_per_s=float(max(*(speed[-1] for speed in plain), reading.max())),
        cache_bytes_per_s=float(np.concatenate(plain).max()),
        cache_bytes=cache_bytes(),
        cores=timings.threads,
        memory_bytes=float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        call_s=float(min(timings.best(name).min() for name in ("copy", "add", "activation"))),
    )


def check_network(chip: Chip, effort: Effort, timings: Timings, folder: Path) -> dict[str, float]:
    """Forward pass of a network of products and rectifiers: measured and predicted seconds, and their ratio."""
    before = os.environ.get(ENVIRONMENT)
    os.environ[ENVIRONMENT] = str(folder)
    try:
        predicted = predict_network(chip, effort)
    finally:
        os.environ.pop(ENVIRONMENT)
        if before is not None:
            os.environ[ENVIRONMENT] = before
    measured = float(timings.best("mlp")[0])
    return {"measured_s": measured, "predicted_s": predicted, "ratio": predicted / measured}


def predict_network(chip: Chip, effort: Effort) -> float:
    """Seconds of the operators of the network, one after the other."""
    operators: list[Operator] = []
    for k, n in zip(effort.mlp[:-1], effort.mlp[1:], strict=True):
        size = 4.0 * MLP_BATCH * n
        operators.append(Gemm(part="product", m=MLP_BATCH, n=n, k=k, dtype="fp32", out_dtype="fp32"))
        operators.append(Vector(part="rectifier", op="activation", bytes_read=size, bytes_written=size, flop=size / 4))
    return math.fsum(float(cost.time_s) for cost in CostEngine(chip).price(operators))


def _next(out: Path, system_file: Path, threads: int) -> tuple[str, ...]:
    """Commands that use the files; the environment is needed only for a folder that is not read anyway."""
    known = out.resolve() in [folder.resolve() for folder in calibration_folders()]
    system = shlex.quote(str(system_file.resolve()))
    commands = [] if known else [f"export {ENVIRONMENT}={shlex.quote(str(out.resolve()))}"]
    commands += [
        f"supertwin show {system}",
        f"supertwin train gpt3-126m --on {system}",
        f"supertwin infer gpt3-126m --on {system}",
    ]
    return (*commands, f"OPENBLAS_NUM_THREADS={threads} python your_program.py   # as it was measured")
