"""Calibration files: order of search, inheritance, refusal of malformed ones; residual surfaces."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from supertwin.core.errors import TableError
from supertwin.cost.calibration import INHERITED_SPREAD, PRIOR_SPREAD, load_calibration, read_calibration
from supertwin.cost.gemm import gemm_cost
from supertwin.cost.surface import Surface, surface_from_json
from supertwin.machine.chips import load_chip
from supertwin.machine.fitted import shipped_folder
from supertwin.workload.operators import Gemm

GOOD = {"family": "gemm", "chip": "h100-sxm", "parameters": {"bf16": {"multiply": 0.5}}, "spread": 0.2}


def write(folder: Path, content: object, chip: str = "h100-sxm") -> Path:
    path = folder / chip / "gemm.json"
    path.parent.mkdir(parents=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_environment_wins_over_the_shipped_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = load_calibration(load_chip("h100-sxm"), "gemm")
    write(tmp_path, GOOD)
    monkeypatch.setenv("SUPERTWIN_CALIBRATION", str(tmp_path))
    mine = load_calibration(load_chip("h100-sxm"), "gemm")
    assert (shipped.origin, mine.origin) == ("shipped", "user")
    assert mine.group("bf16") == {"multiply": 0.5}


def test_a_chip_without_file_inherits_with_a_wider_spread() -> None:
    own, inherited = (load_calibration(load_chip(n), "gemm") for n in ("h100-sxm", "h100-pcie"))
    assert inherited.inherited
    assert (inherited.chip, inherited.source_chip) == ("h100-pcie", "h100-sxm")
    assert inherited.spread == pytest.approx((own.spread**2 + INHERITED_SPREAD**2) ** 0.5)
    mine, theirs = inherited.group("bf16"), own.group("bf16")
    assert {**mine, "throttle": 0.0} == {**theirs, "throttle": 0.0}
    assert mine["throttle"] > theirs["throttle"]  # 350 W instead of 700 W


def test_a_file_is_completed_by_the_relatives() -> None:
    die, relative = (load_calibration(load_chip(n), "gemm") for n in ("ascend-910c-die", "ascend-910b2"))
    assert not die.inherited
    assert "grouped:int8" not in relative.parameters
    assert die.group("bf16") == relative.group("bf16")


def test_a_family_without_any_file_has_wide_priors() -> None:
    found = load_calibration(load_chip("h100-sxm"), "no-such-family")
    assert (found.origin, found.spread, found.source_chip) == ("prior", PRIOR_SPREAD, "")
    assert found.sources()[0][3] == "assumption"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "JSON"),
        ([], "lacks"),
        ({**GOOD, "family": "experts"}, "named"),
        ({**GOOD, "spread": 0.0}, "spread"),
        ({**GOOD, "spread": "wide"}, "numbers by name"),
        ({**GOOD, "parameters": {"bf16": {"multiply": "high"}}}, "numbers by name"),
        ({**GOOD, "surface": {"bf16": {"axes": ["m"], "knots": [[1, 0]], "unit": 1, "values": [0, 0]}}}, "increasing"),
        ({**GOOD, "surface": {"bf16": {"axes": ["m"], "knots": [[0, 1]], "unit": 1, "values": [0]}}}, "surface"),
    ],
)
def test_malformed_files_are_refused(tmp_path: Path, content: object, says: str) -> None:
    with pytest.raises(TableError, match=says):
        read_calibration(write(tmp_path, content))


def test_shipped_files_are_small_and_readable() -> None:
    paths = [*shipped_folder().glob("*/gemm.json"), *shipped_folder().glob("*/experts.json")]
    assert len(paths) >= 25
    for path in paths:
        assert path.stat().st_size < 200_000, path
        found = read_calibration(path)
        assert found.data_sets
        assert found.date


def test_surface_interpolates_and_holds_its_border() -> None:
    surface = Surface(("m", "n"), (np.array([0.0, 2.0]), np.array([0.0, 1.0, 3.0])), np.arange(6.0).reshape(2, 3))
    assert surface.log_factor([1.0, 0.5]) == pytest.approx(0.5 * (0.5 + 3.5))
    assert surface.log_factor([-5.0, 9.0]) == 2.0
    long = np.linspace(0.0, 2.0, 100_000)
    assert np.allclose(surface.factor([long, np.zeros_like(long)]), np.exp(1.5 * long))
    again = surface_from_json(surface.to_json(), "here")
    assert np.allclose(again.values, surface.values, atol=0.002)


@pytest.mark.parametrize(("side", "measured_tflops"), [(8192.0, 3130.0), (4096.0, 2750.0)])
def test_fp8_products_of_mi355x(side: float, measured_tflops: float) -> None:
    """hipBLASLt in AMD's article on FP8 GEMM for CDNA4 (ROCm 7.1, March 2026)."""
    chip = load_chip("mi355x")
    product = Gemm(part="x", m=side, n=side, k=side, dtype="fp8-tensorwise")
    cost = gemm_cost(chip, load_calibration(chip, "gemm"), product)
    assert float(cost.flop / cost.time_s) / 1e12 == pytest.approx(measured_tflops, rel=0.05)
