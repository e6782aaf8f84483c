"""What is published of Ascend 950."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from supertwin.calibration import ascend_950
from supertwin.calibration.ascend_mixing import COMPRESSORS
from supertwin.cost.calibration import load_calibration
from supertwin.cost.engine import CostEngine
from supertwin.cost.gemm import gemm_parameters
from supertwin.machine.chips import load_chip
from supertwin.machine.fitted import shipped_folder
from supertwin.workload.operators import ExpertMlp, Vector

CHIP = load_chip(ascend_950.CHIP)


@pytest.mark.parametrize("family", ["gemm", "experts", "vector"])
def test_the_shipped_files_are_those_of_the_fit(family: str, tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    (path,) = ascend_950.write(family, tmp_path, "2026-11")
    made, shipped = (
        json.loads((folder / CHIP.name / path.name).read_text()) for folder in (tmp_path, shipped_folder())
    )
    assert made.keys() == shipped.keys()
    assert made["parameters"].keys() == shipped["parameters"].keys()
    for group, constants in made["parameters"].items():
        assert constants == pytest.approx(shipped["parameters"][group], rel=0.02)
    assert made["data_sets"] == shipped["data_sets"]


def test_other_families_have_no_file_of_their_own(tmp_path: Path) -> None:
    assert ascend_950.write("links", tmp_path, "2026-11") == []


def test_products_of_a_decode_step_and_squares() -> None:
    squares, step = ascend_950.predicted_us(CHIP, gemm_parameters(load_calibration(CHIP, "gemm"), "mxfp8", ""))
    assert step == pytest.approx(ascend_950.STEP_US, rel=0.03)
    assert squares == pytest.approx([us for _, us in ascend_950.SQUARES], rel=0.12)


def test_both_parts_of_the_die_share_them() -> None:
    for family, name in (("gemm", "mxfp8"), ("vector", "serving:hyper_pre")):
        own, other = (load_calibration(load_chip(f"ascend-950{bin}"), family).parameters for bin in ("pr", "dt"))
        assert own[name] == other[name]


def test_compressors_of_one_token() -> None:
    prices = CostEngine(CHIP, "serving")
    for moved, took in COMPRESSORS:
        kernel = Vector(part="attention/compress", op="compress", bytes_read=moved, bytes_written=0.0)
        assert float(prices.price([kernel])[0].time_s) == pytest.approx(took * 1e-6, rel=0.15)


def test_experts_load_operands_as_products_do_and_take_weights_from_memory() -> None:
    products = load_calibration(CHIP, "gemm").parameters["mxfp8"]
    assert load_calibration(CHIP, "experts").parameters["local:mxfp8"]["load"] == products["load"]
    alone = ExpertMlp(
        part="moe/experts", rows=24.0, experts=24.0, hidden=7168.0, inter=3072.0, dtype="mxfp8", weight_dtype="mxfp4",
        distribution="balanced", routing=False,
    )  # fmt: skip
    cost = CostEngine(load_chip("ascend-950dt")).price([alone])[0]
    assert float(cost.memory_s) > float(cost.compute_s)
