"""What is published of Ascend 950."""

from __future__ import annotations

import pytest

from supertwin.calibration import ascend_950
from supertwin.cost.calibration import load_calibration
from supertwin.cost.gemm import gemm_parameters
from supertwin.machine.chips import load_chip

CHIP = load_chip(ascend_950.CHIP)


def test_the_shipped_constants_are_those_of_the_fit() -> None:
    pytest.importorskip("scipy")
    shipped = load_calibration(CHIP, "gemm").parameters["mxfp8"]
    fitted = ascend_950.products(CHIP)
    assert shipped == pytest.approx(fitted, rel=0.02)


def test_products_of_a_decode_step_and_squares() -> None:
    squares, step = ascend_950.predicted_us(CHIP, gemm_parameters(load_calibration(CHIP, "gemm"), "mxfp8", ""))
    assert step == pytest.approx(ascend_950.STEP_US, rel=0.03)
    assert squares == pytest.approx([us for _, us in ascend_950.SQUARES], rel=0.12)


def test_both_parts_of_the_die_share_them() -> None:
    for family in ("gemm", "vector"):
        own, other = (load_calibration(load_chip(f"ascend-950{bin}"), family).parameters for bin in ("pr", "dt"))
        name = "mxfp8" if family == "gemm" else "serving:hyper_pre"
        assert own[name] == other[name]
