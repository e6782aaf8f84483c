"""The shipped catalogue: everything loads, everything has a source, everything is consistent with itself."""

import csv
import math
import time
from pathlib import Path

import pytest

import supertwin
from supertwin.core.errors import InputError, UnknownName
from supertwin.machine import (
    chip_names,
    load_chip,
    load_system,
    schema,
    sources,
    system_for_chip,
    system_names,
)
from supertwin.machine.chips import catalogue_aliases
from supertwin.machine.source import DATA, all_sources, source_ids
from supertwin.machine.systems import _build

TABLES = Path(supertwin.__file__).parent / "data"
# vocabularies of the measurement tables; operators/counts.json adds the last three
VOCABULARY = [
    "a100-sxm-40gb",
    "a100-sxm-80gb",
    "a100-pcie-80gb",
    "a800-sxm-80gb",
    "h100-sxm",
    "h100-500w-hbm2e",
    "h200-sxm",
    "h800-sxm",
    "b200-sxm",
    "gb200",
    "b300",
    "gb300",
    "l40s",
    "gh200",
    "mi210",
    "mi250x-gcd",
    "mi300x",
    "mi325x",
    "mi350x",
    "mi355x",
    "gaudi2",
    "gaudi3",
    "tpu-v4",
    "tpu-v5e",
    "tpu-v5p",
    "tpu-v6e",
    "ironwood",
    "ironwood-core",
    "ascend-910b2",
    "ascend-910b3",
    "ascend-910c-die",
    "ascend-unspecified",
    "metax-c500",
    "iluvatar-bi150",
    "b200",
    "rtx-pro-6000",
    "ascend-910b",
    "h200-nvl",
    "ascend-950dt",
    "ascend-950pr",
    "gh200-96gb",
    "gh200-144gb",
    "h100-nvl",
    "h100-pcie",
    "ascend-310p",
    "arc-pro-b60-dual",
    "a800-40gb",
    "a800-80gb",
    "h20",
    "h100-sxm-powercap",
]


@pytest.mark.parametrize("name", VOCABULARY)
def test_every_chip_of_the_tables_has_a_system(name: str) -> None:
    system = system_for_chip(name, 1)
    assert system.devices == 1
    assert system.chip == load_chip(name)


@pytest.mark.parametrize("table", ["training.csv", "inference.csv", "kernels.csv", "collectives.csv"])
def test_every_chip_column_loads(table: str) -> None:
    path = next(TABLES.rglob(table), None)
    if path is None:
        pytest.skip(f"{table} is not shipped")
    with path.open(encoding="utf-8", newline="") as lines:
        names = {row["chip"] for row in csv.DictReader(lines)} - {"unspecified", ""}
    assert names
    for name in names:
        load_chip(name)


@pytest.mark.parametrize("name", chip_names())
def test_chip_is_consistent(name: str) -> None:
    chip = load_chip(name)
    assert 0.9 * chip.printed_memory_bytes <= chip.memory_bytes <= 1.09 * chip.printed_memory_bytes
    assert 0.85 * chip.memory_bytes < chip.usable_memory_bytes <= chip.memory_bytes
    assert 0 < chip.idle_w < chip.tdp_w
    assert chip.l2_bytes_per_s >= chip.memory_bytes_per_s
    assert chip.l2_bytes < chip.memory_bytes
    rates = chip.peak_flop_per_s
    assert rates.get("fp8", math.inf) >= rates.get("bf16", 0)
    assert rates.get("fp4", math.inf) >= rates.get("fp8", 0)
    assert rates.get("bf16", math.inf) >= rates.get("fp32", 0)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in chip_names()
        if load_chip(name).architecture
        in ("ampere", "hopper", "blackwell", "da-vinci-220x", "cdna3", "cdna4", "tpu-v5p")
    ],
)
def test_peak_is_cores_times_clock_times_a_power_of_two(name: str) -> None:
    """A matrix engine does a power of two of FLOP per clock: an independent check of peak, core count and clock."""
    chip = load_chip(name)
    per_clock = chip.peak("bf16") / chip.matrix_cores / chip.clock_hz
    exponent = math.log2(per_clock)
    assert abs(exponent - round(exponent)) < 0.02


@pytest.mark.parametrize("name", chip_names())
def test_relatives_lead_to_an_end(name: str) -> None:
    seen = [name]
    while relative := load_chip(seen[-1]).relative:
        assert relative not in seen
        seen.append(load_chip(relative).name)


@pytest.mark.parametrize("name", system_names())
def test_system_is_consistent(name: str) -> None:
    system = load_system(name)
    inner = [tier for tier in system.tiers if not tier.scale_out]
    if inner:
        assert inner[-1].devices == system.full_devices
    assert all(tier.bandwidth_bytes_per_s > 0 and tier.latency_s > 0 for tier in system.tiers)
    assert system.counts["packages"] * system.chip.devices_per_package == system.full_devices
    assert system.devices == system.full_devices
    assert 1.0 <= system.pue < 1.6
    for part in system.parts:
        assert 0 <= part.idle_w <= part.max_w or part.max_w == 0


def test_every_value_names_a_source_that_resolves() -> None:
    """Also: no source is listed that nothing uses, and assumptions carry their reason."""
    used = {"user", "measured-here"}
    owners = [load_chip(name) for name in chip_names()] + [load_system(name) for name in system_names()]
    for owner in owners:
        for field, cited in owner.cited.items():
            for entry in (cited, *cited.alternatives):
                used.add(sources(entry.source).id)
            if cited.source == "supertwin" or cited.kind != "spec":
                assert cited.note, (owner.name, field)
            if cited.source == "supertwin":
                assert cited.kind in ("assumption", "inferred"), (owner.name, field)
    assert source_ids() == set(all_sources())
    assert source_ids() - used == set()


def test_peaks_agree_with_the_training_table() -> None:
    """training.csv prints the peak that its MFU refers to; ours is within 1 % of it."""
    path = next(TABLES.rglob("training.csv"), None)
    if path is None:
        pytest.skip("training.csv is not shipped")
    rates = {
        "bf16": "bf16",
        "fp16": "bf16",
        "fp8-tensorwise": "fp8",
        "fp8-blockwise": "fp8",
        "mxfp8": "fp8",
        "nvfp4": "fp4",
    }
    checked = set()
    with path.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            if row["precision"] in rates and row["peak_tflops"]:
                checked.add((row["chip"], rates[row["precision"]], float(row["peak_tflops"])))
    assert len(checked) > 25
    for name, rate, tflops in checked:
        assert load_chip(name).peak(rate) / 1e12 == pytest.approx(tflops, rel=0.01), (name, rate)


def test_names_are_unique_and_aliases_lead_home() -> None:
    for folder, names in ((DATA / "chips", chip_names()), (DATA / "systems", system_names())):
        aliases = catalogue_aliases(folder)
        assert set(names) <= set(aliases)
        assert all(aliases[name] == name for name in names)
    assert load_chip("b200") is load_chip("b200-sxm")
    assert load_chip("B200") is load_chip("b200-sxm")
    assert load_system("cloudmatrix384") is load_system("cm384")


def test_interface_names_exist() -> None:
    wanted = """cm384 gb200-nvl72 gb300-nvl72 dgx-h100 dgx-h200 dgx-h800 dgx-b200 dgx-a100 dgx-a100-40gb atlas-a2
    atlas-950
    mi300x-8 mi355x-8 tpu-v5p tpu-v6e"""
    assert set(wanted.split()) <= set(system_names())


def test_part_of_a_system() -> None:
    system = load_system("cm384:128")
    assert (system.devices, system.full_devices, system.nodes, system.systems) == (128, 768, 8, 1)
    cluster = load_system("dgx-h100:1024")
    assert (cluster.devices, cluster.nodes, cluster.systems) == (1024, 128, 128)


@pytest.mark.parametrize(
    "text", ["cm384:0", "cm384:-1", "cm384:1.5", "cm384:", "cm384:x", "cm384:1e3", "cm384:9999999999"]
)
def test_bad_device_counts(text: str) -> None:
    with pytest.raises(InputError):
        load_system(text)


def test_more_than_the_fabric_reaches() -> None:
    with pytest.raises(InputError, match="no scale-out tier"):
        load_system("kunpeng-node:5")
    with pytest.raises(InputError, match="joins at most"):
        load_system("cm384:999999")


def test_unknown_names_give_the_nearest() -> None:
    with pytest.raises(UnknownName, match="cm384"):
        load_system("cm348")
    with pytest.raises(UnknownName, match="ascend-910c"):
        load_chip("ascend-910c-dye")
    with pytest.raises(UnknownName, match="cm2"):
        sources("cm-2")


def test_loading_is_fast() -> None:
    """15 ms for one system (best of five, uncached): only its own files are parsed."""
    path = DATA / "systems" / "cm384.toml"
    best = math.inf
    for _ in range(5):
        start = time.process_time()
        _build(path)
        best = min(best, time.process_time() - start)
    assert best < 0.015


def test_docs_list_every_attribute() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "machines.md").read_text(encoding="utf-8")
    for attribute in (*schema.CHIP, *schema.SYSTEM, *schema.TIER, *schema.PART, *schema.PLANE):
        row = f"| `{attribute.name}` | {attribute.dimension} | {'yes' if attribute.required else ''} |"
        assert f"{row} {attribute.description} |" in page, attribute.name
