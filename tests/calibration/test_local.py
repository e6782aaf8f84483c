"""Measuring this machine: the files that come out load and price."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from supertwin.calibration import local
from supertwin.cost.calibration import ENVIRONMENT
from supertwin.cost.engine import CostEngine
from supertwin.machine.systems import load_system
from supertwin.workload.operators import Gemm, Vector


def test_measure_write_load_price(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = local.Effort(((1, 16, 128), (64, 256, 512)), tuple(2**p for p in range(8, 21, 3)), 0.001)
    monkeypatch.setattr(local, "QUICK", tiny)
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    result = local.calibrate_local(tmp_path, quick=True)
    assert set(result.residuals) == {"gemm", "vector"}
    assert result.elapsed_s < 20
    system = load_system(result.system_file)
    assert system.chip.name == result.chip
    assert system.chip.peak("fp32") == pytest.approx(result.peaks["flop_per_s"], rel=1e-3)
    engine = CostEngine(system.chip)
    assert any("this machine" in row[2] for row in engine.sources())
    product, copy = engine.price(
        [
            Gemm(part="g", m=128, n=512, k=512, dtype="fp32", out_dtype="fp32"),
            Vector(part="v", op="copy", bytes_read=1 << 22, bytes_written=1 << 22),
        ]
    )
    # within a factor of the best rates that were measured a moment ago
    assert 0.2 < product.flop / product.time_s / result.peaks["flop_per_s"] < 1.5
    assert 0.1 < copy.bytes / copy.time_s / result.peaks["cache_bytes_per_s"] < 1.5


def test_timed_keeps_the_shortest() -> None:
    calls = iter([0.0] * 3)

    def call() -> None:
        np.sum(np.arange(100_000 if next(calls, None) is not None else 10))

    assert local.timed(call, 0.002) < 1e-4
