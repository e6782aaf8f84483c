"""Where every chip of the catalogue has its numbers from, and that taking over another chip's widens the interval."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from supertwin.cost.attention import AttentionModel
from supertwin.cost.attention_kernels import Variant
from supertwin.cost.calibration import INHERITED_SPREAD, PRIOR_SPREAD, load_calibration
from supertwin.machine.chips import chip_names, load_chip
from supertwin.machine.fitted import relatives, shipped_folder
from supertwin.network.links import GENERIC, load_links

FAMILIES = ("gemm", "experts", "attention", "vector")
PRIORS_ONLY = ("local-cpu", "kunpeng-920")  # processors: measured by `supertwin calibrate --device cpu`


@pytest.fixture(autouse=True)
def shipped_files_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> Iterator[None]:
    monkeypatch.delenv("SUPERTWIN_CALIBRATION", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return iter(())


def chain(name: str) -> list[str]:
    return [chip.name for chip in relatives(load_chip(name))]


def measured(chip: str, family: str) -> bool:
    return (shipped_folder() / chip / f"{family}.json").is_file()


@pytest.mark.parametrize("name", chip_names())
def test_every_chain_ends_at_a_measurement_or_at_documented_priors(name: str) -> None:
    for family in FAMILIES:
        found = any(measured(chip, family) for chip in chain(name))
        assert found == (name not in PRIORS_ONLY), family
        if not found:
            assert load_calibration(load_chip(name), family).spread == PRIOR_SPREAD


@pytest.mark.parametrize("name", chip_names())
def test_what_is_inherited_has_a_wider_interval(name: str) -> None:
    chip, chips = load_chip(name), chain(name)
    for family in ("gemm", "experts", "vector"):
        steps = next((i for i, c in enumerate(chips) if measured(c, family)), 0)
        here = load_calibration(chip, family)
        if steps:
            there = load_calibration(load_chip(chips[steps]), family)
            assert here.inherited
            assert here.spread**2 == pytest.approx(there.spread**2 + steps * INHERITED_SPREAD**2)
        elif name not in PRIORS_ONLY:
            assert not here.inherited


@pytest.mark.parametrize("name", [n for n in chip_names() if n not in PRIORS_ONLY])
def test_inherited_attention_has_a_wider_interval(name: str) -> None:
    variant = Variant("prefill", "gqa", 128, "bf16", "bf16")
    kernel = AttentionModel(load_chip(name)).kernel(variant)
    if kernel.steps:
        assert kernel.spread > kernel.calibration.spread
        assert kernel.calibration.chip in chain(name)


@pytest.mark.parametrize("name", chip_names())
def test_links_have_constants_or_priors(name: str) -> None:
    table = load_links(load_chip(name))
    assert table.files[-1][0] == GENERIC
    if table.files[0][0] not in (name, GENERIC):
        assert table.spread >= 0.35


@pytest.mark.parametrize(
    ("name", "relative"),
    [
        ("a100-pcie-80gb", "a100-sxm-80gb"),
        ("a100-sxm-40gb", "a100-sxm-80gb"),
        ("a800-sxm-80gb", "a100-sxm-80gb"),
        ("a800-40gb", "a100-sxm-80gb"),
        ("h20", "h100-sxm"),
        ("h800-sxm", "h100-sxm"),
        ("gh200-96gb", "h100-sxm"),
        ("gh200-144gb", "h200-sxm"),
        ("h100-pcie", "h100-sxm"),
        ("h100-nvl", "h100-sxm"),
        ("gb200", "b200-sxm"),
        ("ascend-910c-die", "ascend-910b2"),
    ],
)
def test_the_nearest_measured_chip_is_on_the_chain(name: str, relative: str) -> None:
    assert relative in chain(name)


def test_constants_taken_over_from_another_chip_have_a_wider_interval() -> None:
    """B200 has no vector measurements: its file carries the shares of the H800."""
    taken, donor = (load_calibration(load_chip(name), "vector") for name in ("b200-sxm", "h800-sxm"))
    assert not taken.residual["n_held_out"]
    assert taken.spread**2 == pytest.approx(donor.spread**2 + INHERITED_SPREAD**2, rel=0.02)
