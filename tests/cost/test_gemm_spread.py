"""Half-widths of matrix products by group: from rows that no fit has seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from supertwin.calibration.common import FEW_ROWS_SPREAD, held_out
from supertwin.calibration.gemm_files import fit_chip
from supertwin.calibration.gemm_fit import GemmFit, GemmUnit
from supertwin.calibration.gemm_spread import unit_spread
from supertwin.calibration.holdout import shipped_kernels
from supertwin.calibration.kernels import kernel_gemm_rows
from supertwin.calibration.tables import GemmRows
from supertwin.cost.calibration import load_calibration, read_calibration
from supertwin.cost.engine import CostEngine
from supertwin.cost.gemm import PRIOR, GemmConditions, gemm_cost, gemm_spread
from supertwin.machine.chips import load_chip
from supertwin.machine.fitted import shipped_folder
from supertwin.workload.operators import Gemm

CHIP = load_chip("h100-sxm")


def unit(rows: int, noise: float) -> GemmUnit:
    """Rows that the priors price exactly, times a log-normal error that grows to the held-out side alone."""
    random = np.random.default_rng(7)
    m, n, k = (2.0 ** random.integers(6, 13, rows) + 8.0 * random.integers(0, 40, rows) for _ in range(3))
    gemm = Gemm(part="", m=m, n=n, k=k, dtype="bf16", groups=np.ones(rows))
    time_s = gemm_cost(CHIP, replace(load_calibration(CHIP, "none"), parameters={"bf16": PRIOR}), gemm).time_s
    off = np.where(held_out(m, n, k), np.exp(noise * random.standard_normal(rows)), 1.0)
    return GemmUnit(CHIP, "", "bf16", (GemmRows(CHIP.name, "", gemm, time_s * off, GemmConditions(), source="x"),))


def never(_: GemmUnit) -> GemmFit:
    raise AssertionError("the held-out rows are enough")


def test_the_spread_is_that_of_the_rows_that_were_held_out() -> None:
    """1.645 standard deviations are the 90 % half-width; fitted rows without error do not dilute it."""
    found = GemmFit(unit(1000, 0.2), PRIOR)
    assert unit_spread(found, never) == pytest.approx(1.645 * 0.2, rel=0.15)


def test_small_units_are_fitted_again_without_the_rows_in_question() -> None:
    """A fit that returns what it saw off by a factor 2 is caught, and each row is left out once."""
    given = unit(30, 0.0)
    seen: list[int] = []

    def refit(part: GemmUnit) -> GemmFit:
        seen.append(part.rows)
        return GemmFit(part, {**PRIOR, "multiply": PRIOR["multiply"] / 3.0, "load": 0.3, "memory": 0.28})

    assert unit_spread(GemmFit(given, PRIOR), refit) > 0.5
    assert sum(given.rows - rows for rows in seen) == given.rows


@pytest.mark.parametrize("rows", [1, 3, 12, 39])
def test_few_rows_have_a_floor(rows: int) -> None:
    given = unit(rows, 0.0)
    assert unit_spread(GemmFit(given, PRIOR), lambda part: GemmFit(part, PRIOR)) == FEW_ROWS_SPREAD


def test_a_fit_states_the_spread_of_each_group() -> None:
    rows = [r for r in kernel_gemm_rows(shipped_kernels()) if r.chip == "h800-sxm"]
    found = fit_chip(load_chip("h800-sxm"), rows, load_calibration(CHIP, "gemm"))
    assert set(found.spreads) == set(found.parameters)
    assert min(found.spreads.values()) >= FEW_ROWS_SPREAD


def test_every_shipped_group_has_a_spread() -> None:
    for path in shipped_folder().glob("*/gemm.json"):
        found = read_calibration(path)
        assert set(found.spreads) == set(found.parameters), path
        assert all(0.05 <= s < 1.0 for s in found.spreads.values()), path


def test_spread_of_a_product_is_that_of_the_constants_that_price_it() -> None:
    """cuBLAS products on B200 scatter more (kernels.csv) than the wide tables that serving rests on."""
    chip = load_chip("b200-sxm")
    calibration = load_calibration(chip, "gemm")
    product = Gemm(part="x", m=4096.0, n=4096.0, k=4096.0)
    training = gemm_spread(calibration, product, GemmConditions(context="cublas-training"))
    assert training == calibration.spreads["cublas-training:bf16"] > 1.5 * gemm_spread(calibration, product)
    for library, expected in (("training", training), ("serving", gemm_spread(calibration, product))):
        engine = CostEngine(chip, library)
        assert engine.spread(engine.price([product])[0]) == expected
    mixed = replace(product, groups=np.array([1.0, 8.0]))
    assert gemm_spread(calibration, mixed) == calibration.spreads["grouped:bf16"]


def test_nine_in_ten_unseen_products_lie_within() -> None:
    """Products of training (kernels.csv) on unseen shapes: 90 % within, to three sigma of the binomial."""
    inside = []
    for part in kernel_gemm_rows(shipped_kernels()):
        if part.context != "cublas-training" or part.grouped:
            continue
        held = part.take(held_out(part.gemm.m, part.gemm.n, part.gemm.k))
        chip = load_chip(part.chip)
        calibration = load_calibration(chip, "gemm")
        cost = gemm_cost(chip, calibration, held.gemm, held.conditions)
        spread = gemm_spread(calibration, held.gemm, held.conditions)
        inside += list(np.abs(np.log(held.time_s / cost.time_s)) <= spread)
    assert len(inside) > 100
    assert np.mean(inside) == pytest.approx(0.9, abs=3.0 * (0.09 / len(inside)) ** 0.5)
