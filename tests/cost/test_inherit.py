"""What a chip takes over from its relative: BF16 shares and the clock that its power allows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supertwin.cost.calibration import FOREIGN_SPREAD, load_calibration, read_calibration
from supertwin.cost.gemm import GemmConditions, gemm_cost
from supertwin.cost.inherit import (
    bf16_share,
    clock_gain,
    clocked_groups,
    feed_ratio,
    narrowed_groups,
    narrower,
    scaled_groups,
)
from supertwin.machine.chips import load_chip
from supertwin.machine.fitted import shipped_folder
from supertwin.workload.operators import Gemm

H100, MI300X, MI325X = (load_chip(name) for name in ("h100-sxm", "mi300x", "mi325x"))


def share(chip: str, dtype: str, context: str = "") -> float:
    """Share of the format's own peak that a large product reaches."""
    loaded = load_chip(chip)
    product = Gemm(part="x", m=8192.0, n=8192.0, k=8192.0, dtype=dtype)
    cost = gemm_cost(loaded, load_calibration(loaded, "gemm"), product, GemmConditions(context=context))
    return float(cost.flop / cost.time_s) / loaded.peak("bf16" if dtype == "bf16" else "fp8")


@pytest.mark.parametrize("dtype", ["fp8-tensorwise", "fp8-blockwise", "mxfp8"])
def test_an_unmeasured_format_keeps_its_share_relative_to_bf16(dtype: str) -> None:
    """MI300X reaches 0.55 of its BF16 peak (kernels.csv: 724 of 1307 TFLOP/s), the H100 0.8 of its own."""
    assert share("mi300x", "bf16") == pytest.approx(724 / 1307.4, rel=0.02)
    relative = share("mi300x", dtype) / share("mi300x", "bf16")
    assert relative == pytest.approx(share("h100-sxm", dtype) / share("h100-sxm", "bf16"), rel=0.12)
    assert share("mi300x", dtype) < 0.8 * share("h100-sxm", dtype)


def test_experts_follow_the_products() -> None:
    mine, theirs = (load_calibration(chip, "experts") for chip in (MI300X, H100))
    gemm, above = (load_calibration(chip, "gemm") for chip in (MI300X, H100))
    ratio = bf16_share(gemm.parameters, gemm.surfaces, "bf16", MI300X) / bf16_share(
        above.parameters, above.surfaces, "bf16", MI300X
    )
    assert ratio == pytest.approx(0.683, abs=0.03)
    for name in ("bf16", "fp8-blockwise"):
        assert mine.group(name)["multiply"] == pytest.approx(theirs.group(name)["multiply"] * ratio)
        assert mine.group(name)["fixed_s"] == theirs.group(name)["fixed_s"]


def test_taken_over_groups_are_less_certain() -> None:
    gemm, above = load_calibration(MI300X, "gemm"), load_calibration(H100, "gemm")
    at = "fp8-tensorwise"
    assert gemm.spread_of(at) == pytest.approx((above.spread_of(at) ** 2 + FOREIGN_SPREAD**2) ** 0.5)
    assert gemm.spread_of(at) > gemm.spread_of("bf16")
    assert load_calibration(MI325X, "gemm").spread_of("bf16") > gemm.spread_of("bf16")


def test_explain_says_what_was_taken_over() -> None:
    rows = load_calibration(load_chip("b300"), "gemm").sources()
    assert ("gemm from b200-sxm", "sustained clock x 1.03") in {row[:2] for row in rows}
    assert any(row[1].startswith("core rates x 0.6") for row in load_calibration(MI300X, "experts").sources())


def test_own_measurements_are_not_touched() -> None:
    for chip in ("mi300x", "gb300", "h800-sxm", "b300"):
        own = read_calibration(shipped_folder() / chip / "gemm.json")
        used = load_calibration(load_chip(chip), "gemm")
        assert all(used.group(name) == values for name, values in own.parameters.items())


def test_clock_by_power_against_measurements() -> None:
    """Sustained clocks that were measured, and are not in the law.

    GB300 over B200: throttles of their own tables (1 - 0.2352) / (1 - 0.2667) = 1.043. H20: none (its table holds 0.01)
    though the H100 loses 0.17, at 4/7 of the power and 15 % of the FLOP per cycle. MI325X over MI300X: best shapes
    784.9 and 668.4 TFLOP/s = 1.17 (kernels.csv), from which the law takes what 1000 W instead of 750 W allow.
    """
    b200, gb300 = load_chip("b200-sxm"), load_chip("gb300")
    assert clock_gain(gb300, b200) == pytest.approx(1.043, abs=0.03)
    assert clock_gain(load_chip("h20"), H100) > 1.0 / (1.0 - 0.1712)
    assert clock_gain(MI325X, MI300X) == pytest.approx((1000 / 750) ** (1 / 3))
    assert clock_gain(MI325X, MI300X) < 784.9 / 668.4


def test_clock_is_left_alone_across_architectures_and_without_power() -> None:
    assert clock_gain(MI300X, H100) == 1.0
    assert clock_gain(replace(MI325X, tdp_w=0.0), MI300X) == 1.0
    assert clock_gain(replace(H100, name="other"), H100) == 1.0


@given(power=st.floats(50.0, 5000.0), throttle=st.floats(0.0, 0.5))
def test_more_power_never_slows_the_clock(power: float, throttle: float) -> None:
    def left(watts: float) -> float:
        gain = clock_gain(replace(H100, tdp_w=watts), H100)
        return clocked_groups({"bf16": {"throttle": throttle}}, gain)["bf16"]["throttle"]

    assert left(2.0 * power) <= left(power)
    assert 0.0 <= left(power) < 1.0
    assert left(H100.tdp_w) == throttle
    assert (left(power) == 0.0) == (throttle == 0.0)  # 0 stands for "not known" and stays so


def test_a_share_never_exceeds_the_peak() -> None:
    groups = scaled_groups({"a": {"multiply": 0.8, "load": 1.0, "memory": 0.9}, "b": {"fixed_s": 1e-6}}, 1.5)
    assert groups == {"a": {"multiply": 1.0, "load": 1.5, "memory": 0.9}, "b": {"fixed_s": 1e-6}}


def test_a_user_file_of_bf16_moves_the_other_formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow BF16 measurement on a chip without one makes its FP8 slower in proportion."""
    before = share("h100-nvl", "fp8-tensorwise"), share("h100-nvl", "bf16")
    own = load_calibration(load_chip("h100-nvl"), "gemm").group("bf16")
    content = {"family": "gemm", "chip": "h100-nvl", "spread": 0.1, "parameters": {"bf16": {**own, "scale": 2.0}}}
    path = tmp_path / "h100-nvl" / "gemm.json"
    path.parent.mkdir()
    path.write_text(json.dumps(content))
    monkeypatch.setenv("SUPERTWIN_CALIBRATION", str(tmp_path))
    after = share("h100-nvl", "fp8-tensorwise"), share("h100-nvl", "bf16")
    assert after[1] == pytest.approx(before[1] / 2.0, rel=0.05)
    assert after[0] / before[0] == pytest.approx(after[1] / before[1], rel=0.1)


def test_loads_keep_their_proportion_to_the_cores() -> None:
    """GB200 has B200's L2 rate in the catalogue and a 1.11 times higher matrix peak."""
    own, relative = load_chip("gb200"), load_chip("b200-sxm")
    feed = feed_ratio(own, relative)
    assert feed == pytest.approx(2.5 / 2.25 * relative.l2_bytes_per_s / own.l2_bytes_per_s)
    groups = scaled_groups({"a": {"multiply": 0.5, "load": 1.0}}, 0.9, feed)
    ratio = groups["a"]["load"] * own.l2_bytes_per_s / (groups["a"]["multiply"] * own.peak("bf16"))
    assert ratio == pytest.approx(1.0 * relative.l2_bytes_per_s / (0.5 * relative.peak("bf16")))
    assert feed_ratio(own, own) == 1.0


@pytest.mark.parametrize(
    ("family", "above", "name", "constant", "off"),
    [
        ("gemm", "h800-sxm", "deepgemm:fp8-blockwise", "multiply", 0.02),
        ("gemm", "h800-sxm", "deepgemm:grouped:fp8-blockwise", "multiply", 0.02),
        ("attention", "h800-sxm", "prefill/gqa/128/bf16/bf16", "rate", 0.10),
        ("attention", "h100-sxm", "prefill/gqa/256/bf16/bf16", "rate", 0.13),
        ("attention", "h800-sxm", "decode/mla/576/bf16/bf16", "rate", 0.11),
    ],
)
def test_narrow_cores_against_measurements(family: str, above: str, name: str, constant: str, off: float) -> None:
    """H20 has a quarter of the tensor rate in the same SM; both tables were measured, and neither is in the law."""
    wide, narrow = (read_calibration(shipped_folder() / chip / f"{family}.json").group(name) for chip in (above, "h20"))
    ratio = narrower(load_chip("h20"), load_chip(above))
    assert ratio == pytest.approx(3.95, abs=0.01)
    told = narrowed_groups({name: wide}, ratio)[name]
    assert told[constant] == pytest.approx(narrow[constant], rel=off)
    assert abs(wide[constant] / narrow[constant] - 1.0) > 0.19


def test_bins_of_a_part_have_the_same_cores() -> None:
    for chip, above in (
        ("h100-pcie", "h100-sxm"),
        ("h100-nvl", "h100-sxm"),
        ("mi300x", "h100-sxm"),
        ("h100-sxm", "h20"),
    ):
        assert narrower(load_chip(chip), load_chip(above)) == 1.0


def test_experts_of_narrow_cores_keep_loads_and_fixed_times() -> None:
    mine, theirs = (load_calibration(load_chip(c), "experts").group("local:fp8-blockwise") for c in ("h20", "h100-sxm"))
    assert mine["multiply"] > 1.3 * theirs["multiply"]
    assert mine["multiply"] < 1.0
    assert all(mine[n] == theirs[n] for n in ("load", "memory", "fixed_s"))
    rows = load_calibration(load_chip("h20"), "experts").sources()
    assert any(row[1].startswith("core shares s as 4 /") for row in rows)


@given(st.floats(0.01, 1.0), st.floats(1.5, 8.0))
def test_narrow_cores_are_used_better_and_never_above_the_peak(share: float, ratio: float) -> None:
    told = narrowed_groups({"x": {"multiply": share, "load": 0.5}}, ratio)["x"]
    assert share * (1.0 - 1e-9) <= told["multiply"] <= 1.0
    assert told["load"] == 0.5
    assert told["multiply"] / ratio <= share * (1.0 + 1e-9)  # never faster than the wider cores
