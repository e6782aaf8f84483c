"""Measuring this machine: what disturbs it is seen, the fit recovers a known processor, the files load and price."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")

from supertwin.calibration import local, local_measure
from supertwin.calibration.local_files import LocalPeaks, write_chip
from supertwin.calibration.local_fit import Measured, fit_gemm, fit_vector
from supertwin.calibration.local_measure import STREAMS, Effort, Timings, points
from supertwin.core.errors import SupertwinError
from supertwin.cost.engine import CostEngine
from supertwin.machine.chip import Chip
from supertwin.machine.chips import load_chip
from supertwin.machine.fitted import ENVIRONMENT
from supertwin.machine.systems import load_system
from supertwin.workload.operators import Gemm

TINY = Effort(
    (1, 16, 128), (64, 256, 512), (1, 4), (256, 512), tuple(2**p for p in range(8, 21, 2)), (256, 512, 64), 1e-3, 3
)
RATE, VECTOR, STREAM, CACHED, CALL_S = 1e11, 1e10, 2e10, 1e11, 1e-6


def made_timings(noise: float = 0.0, seed: int = 0) -> Timings:
    """A processor of known rates, seconds per call CALL_S; rounds scatter by `noise`."""
    random = np.random.default_rng(seed)

    def seconds(kind: str, point: tuple[int, ...]) -> float:
        if kind in STREAMS:
            moved = 4.0 * STREAMS[kind].moved * point[0]
            return CALL_S + max(moved / (CACHED if moved <= 2**25 else STREAM), STREAMS[kind].flop * point[0] / VECTOR)
        if kind == "mlp":
            return 1e-3
        m, n, k = point
        read = 4.0 * n * k / (STREAM if kind == "cold" else CACHED)
        return CALL_S + max(2.0 * m * n * k / RATE, read)

    rounds = {
        kind: np.array([[seconds(kind, p) * math.exp(noise * abs(random.normal())) for _ in range(5)] for p in every])
        for kind, every in points(local.FULL).items()
    }
    return Timings(2, rounds)


def made_chip(folder: Path) -> Chip:
    peaks = LocalPeaks(RATE, VECTOR, STREAM, CACHED, 2.0**25, 2, 2.0**34, CALL_S)
    return load_chip(write_chip(folder / f"{local.NAME}.toml", peaks, "2026-11-21"))


def test_the_fit_recovers_a_known_processor(tmp_path: Path) -> None:
    chip, measured = made_chip(tmp_path), Measured.of(local.NAME, local.FULL, made_timings())
    calibration, residual = fit_gemm(chip, measured.products)
    assert residual["n_held_out"] > 40
    assert residual["held_out_median_ape"] < 0.06
    assert 0.9 < calibration.parameters["fp32"]["multiply"] <= 1.1
    vector, errors = fit_vector(chip, measured.streams, "2026-11-21")
    assert errors["held_out_median_ape"] < 0.15
    assert vector["parameters"]["copy"]["start_s"] == pytest.approx(CALL_S, rel=0.2)


def test_weights_in_cache_and_from_memory_are_told_apart(tmp_path: Path) -> None:
    chip, measured = made_chip(tmp_path), Measured.of(local.NAME, local.FULL, made_timings())
    from supertwin.cost.gemm import GemmConditions, gemm_cost

    calibration, _ = fit_gemm(chip, measured.products)
    call = Gemm(part="g", m=1.0, n=1024.0, k=1024.0, dtype="fp32", out_dtype="fp32")
    cold = float(gemm_cost(chip, calibration, call).time_s)
    hot = float(gemm_cost(chip, calibration, call, GemmConditions(context="cache", weights_cold=False)).time_s)
    assert cold == pytest.approx(CALL_S + 2**22 / STREAM, rel=0.15)
    assert hot == pytest.approx(CALL_S + 2**22 / CACHED, rel=0.25)


def test_one_disturbed_round_does_not_move_a_time() -> None:
    calm = made_timings()
    disturbed = Timings(2, {kind: s.copy() for kind, s in calm.seconds.items()})
    disturbed.seconds["gemm"][:, 2] *= 500.0
    assert disturbed.best("gemm") == pytest.approx(calm.best("gemm"))
    assert disturbed.noise() < 0.01
    for kind in disturbed.seconds:
        disturbed.seconds[kind][:, 3:] *= 500.0
    assert disturbed.noise() > 100.0


def test_a_disturbed_machine_falls_back_to_one_thread_or_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "wanted_threads", lambda: 4)
    noise = {4: 2.0, 1: 0.02}
    monkeypatch.setattr(
        local, "measure", lambda _effort, threads: Timings(threads, made_timings(noise[threads]).seconds)
    )
    timings, warnings = local.measure_calmly(local.FULL, lambda _text: None)
    assert timings.threads == 1
    assert "other programs disturb 4 threads" in warnings[0]
    noise[1] = 2.0
    with pytest.raises(SupertwinError, match="measurement too noisy: repeated rounds differ by"):
        local.measure_calmly(local.FULL, lambda _text: None)


def test_threads_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in local_measure.THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert local.wanted_threads() >= 1
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    assert local.wanted_threads() == 1


def test_measure_write_load_price(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real measurement of this machine with one thread: files load, and a network that was not fitted is predicted.

    Within a factor of 3: other programs may run beside the test. On a quiet machine it is 0.75 to 1.15.
    """
    monkeypatch.setattr(local, "QUICK", TINY)
    monkeypatch.setattr(local, "MOST_NOISE", math.inf)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    result = local.calibrate_local(tmp_path, quick=True)
    assert (result.threads, set(result.residuals)) == (1, {"gemm", "vector"})
    assert 1 / 3 < result.check["ratio"] < 3
    assert result.next[0] == f"export {ENVIRONMENT}={tmp_path}"
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    system = load_system(result.system_file)
    assert system.chip.name == result.chip
    assert system.chip.matrix_cores == 1
    assert system.chip.peak("fp32") == pytest.approx(result.peaks["flop_per_s"], rel=1e-3)
    assert any("this machine" in row[2] for row in CostEngine(system.chip).sources())


def test_timed_keeps_the_shortest() -> None:
    calls = iter([0.0] * 3)

    def call() -> None:
        np.sum(np.arange(1_000_000 if next(calls, None) is not None else 10))

    assert local_measure.timed(call, 0.02) < 1e-4


def test_a_long_call_takes_the_time_of_its_thread() -> None:
    assert local_measure.timed(lambda: time.sleep(0.01), 0.0) >= 0.01
    assert local_measure.timed(lambda: time.sleep(0.01), 0.0, alone=True) < 0.005
