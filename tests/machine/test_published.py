"""Numbers printed in the literature, rebuilt from the catalogue."""

import csv
from collections.abc import Mapping

import pytest

from supertwin.machine import Cited, Figure, compare, inventory, load_chip, load_system
from supertwin.machine.source import DATA


def figures(name: str) -> dict[str, Figure]:
    return {figure.name: figure for figure in inventory(load_system(name))}


def test_cm384_inventory() -> None:
    """CloudMatrix384 paper (arXiv 2506.12708 v2) section 3 and the Atlas 900 A3 white paper."""
    counts = load_system("cm384").counts
    expected = {"devices": 768, "packages": 384, "nodes": 48, "cpu": 192, "l1_chip": 336, "l2_chip": 112}
    expected |= {"l2_device": 56, "dimm": 1536}
    assert {name: counts[name] for name in expected} == expected
    assert (counts["compute_rack"], counts["bus_rack"], counts["fibre"]) == (12, 4, 3168)


def test_totals_by_kind_of_part() -> None:
    counts = load_system("cm384").counts
    assert (counts["npu_packages"], counts["cpus"], counts["racks"]) == (384, 192, 16)
    assert counts["switches"] == 336 + 56
    assert (counts["transceivers"], counts["scale_up_transceivers"]) == (6912, 5376)
    assert load_system("gb200-nvl72").counts["transceivers"] == 0


def test_cm384_optics() -> None:
    """SemiAnalysis: 6,912 modules, 18 per package = 14 scale-up + 4 scale-out; here both ends are counted."""
    figure = figures("cm384")
    assert figure["transceivers"].value == 6912
    assert figure["transceivers_scale_up"].value == 14 * 384
    assert figure["transceivers_scale_out"].value == 4 * 384


def test_ub_plane_is_non_blocking() -> None:
    """Links of the L1 chips upwards carry what the dies below can send: 7 x 16 x 28 = 16 x 196 GB/s."""
    system = load_system("cm384")
    node, supernode = system.tiers[1], system.tiers[2]
    up = 7 * 16 * 28e9
    assert up == pytest.approx(node.devices * node.bandwidth_bytes_per_s)
    assert supernode.bandwidth_bytes_per_s == node.bandwidth_bytes_per_s
    l2_ports = system.counts["l2_chip"] * 48
    assert l2_ports * 28e9 == pytest.approx(system.full_devices * supernode.bandwidth_bytes_per_s)


def test_cm384_totals() -> None:
    """Printed totals: 49.2 TB and 1,229 TB/s of HBM, 300 PFLOPS in the SemiAnalysis reading."""
    figure = figures("cm384")
    assert figure["memory_printed"].value == pytest.approx(49.2e12, rel=0.002)
    assert figure["memory_bandwidth"].value == pytest.approx(1229e12, rel=0.001)
    assert max(figure["peak_bf16"].readings) == pytest.approx(300e15, rel=0.002)
    assert figure["peak_bf16"].value == pytest.approx(271.8e15, rel=0.001)
    assert any(value == pytest.approx(269e12, rel=0.001) for value in figure["scale_up_bidir"].readings)


def test_nvl72_totals() -> None:
    """GB200 NVL72 data sheet: 180 PFLOPS dense, 576 TB/s, 130 TB/s NVLink; 13.8 TB in the SemiAnalysis reading."""
    figure = figures("gb200-nvl72")
    assert figure["peak_bf16"].value == pytest.approx(180e15)
    assert figure["memory_bandwidth"].value == pytest.approx(576e12)
    assert figure["scale_up_bidir"].value == pytest.approx(130e12, rel=0.01)
    assert any(value == pytest.approx(13.8e12, rel=0.005) for value in figure["memory_printed"].readings)


@pytest.mark.parametrize(
    ("figure", "published"),
    [
        ("peak_bf16", 1.67),
        ("memory_printed", 3.56),
        ("memory_bandwidth", 2.1),
        ("scale_up_bidir", 2.1),
        ("scale_out", 5.3),
        ("power", 3.9),
        ("w_per_flop", 2.3),
        ("w_per_memory_bandwidth", 1.8),
        ("w_per_memory_byte", 1.1),
    ],
)
def test_ratios_of_cm384_to_nvl72(figure: str, published: float) -> None:
    """SemiAnalysis system comparison (through secondary text); its readings lie inside our range of readings."""
    ratio = compare([load_system("cm384"), load_system("gb200-nvl72")]).ratio(figure, "gb200-nvl72")
    assert ratio.low * 0.985 <= published <= ratio.high * 1.015
    assert ratio.low <= ratio.value <= ratio.high
    assert ratio.value == pytest.approx(published, rel=0.12)


def test_chip_ratio() -> None:
    """One 910C package against one Blackwell GPU: about a third (780 of 2,500 TFLOPS)."""
    die = load_chip("ascend-910c-die")
    package = die.peak("bf16") * die.devices_per_package
    assert package / load_chip("gb200").peak("bf16") == pytest.approx(0.283, abs=0.005)


def test_conflicts_keep_both_readings() -> None:
    die = load_chip("ascend-910c-die").cited
    assert die["peak.fp16"].value == 376e12
    assert 376e12 in [other.value for other in die["peak.bf16"].alternatives]
    refuted = [other for other in die["memory.bandwidth"].alternatives if other.kind == "refuted"]
    assert [other.value for other in refuted] == [0.9e12]
    power = load_system("cm384").cited["power.system"]
    assert {other.value for other in power.alternatives} == {719e3, 706e3, 600e3, 500e3}
    assert power.note


def test_part_of_a_machine_has_its_share() -> None:
    whole, half = figures("cm384"), figures("cm384:384")
    for name in ("peak_bf16", "memory", "power", "price", "transceivers"):
        assert half[name].value == pytest.approx(whole[name].value / 2)
    assert half["w_per_flop"].value == pytest.approx(whole["w_per_flop"].value)


def test_compare_with_itself_is_one() -> None:
    system = load_system("dgx-h100")
    assert {ratio.value for ratio in compare([system, system]).ratios} == {1.0}


def test_every_system_has_an_inventory() -> None:
    from supertwin.machine import system_names

    for name in system_names():
        for figure in inventory(load_system(name)):
            assert figure.value > 0, (name, figure.name)
            assert figure.sources, (name, figure.name)


def test_no_measured_kernel_beats_the_catalogue() -> None:
    """GEMM rates of kernels.csv stay below our peaks, memory rates below our bandwidths; wrong peaks would show."""
    path = next(DATA.rglob("kernels.csv"), None)
    if path is None:
        pytest.skip("kernels.csv is not shipped")
    best: dict[str, float] = {}
    with path.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            chip, rate = load_chip(row["chip"]), row["dtype"].partition("-")[0]
            if row["kernel"] == "gemm" and row["measured_tflops"]:
                peak = max(value.value for value in readings(chip.cited, rate))
                share = float(row["measured_tflops"]) * 1e12 / peak
                assert share < 1.0, row["id"]
                best[chip.name] = max(best.get(chip.name, 0.0), share)
            if row["measured_gbps"]:
                assert float(row["measured_gbps"]) * 1e9 < chip.memory_bytes_per_s, row["id"]
    assert min(best[name] for name in ("h100-sxm", "a100-sxm-80gb", "b200-sxm", "ascend-910b2")) > 0.6


def readings(cited: Mapping[str, Cited], rate: str) -> list[Cited]:
    """The chosen peak and its open alternatives; formats without hardware run at BF16."""
    chosen = cited.get(f"peak.{rate}") or cited["peak.bf16"]
    return [chosen, *(other for other in chosen.alternatives if other.kind != "refuted")]
