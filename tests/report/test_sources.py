"""The numbers a prediction stands on: complete, in the unit that is printed, each with its source."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache

import pytest

from supertwin.core.units import parse_quantity
from supertwin.machine import Cited, load_system, stated
from supertwin.machine.source import all_sources
from supertwin.room import room_assumptions
from tests.cli.run import supertwin

STEPS = {
    "train": ("train", "llama3.1-8b", "--on", "dgx-h100:8"),
    "prefill": ("infer", "llama-3.1-8b", "--on", "dgx-h100:8", "--phase", "prefill"),
    "decode": ("infer", "llama-3.1-8b", "--on", "dgx-h100:8", "--phase", "decode"),
}


@cache
def sources_of(step: str) -> dict[str, dict[str, str]]:
    result = supertwin(*STEPS[step], "--json")
    assert result.code == 0, result.err
    return {row["name"]: row for row in json.loads(result.out)["sources"]}


def used() -> Mapping[str, Cited]:
    """Every cited value of the machine and its room, by the name of its row."""
    system = load_system("dgx-h100")
    return {
        **{f"h100-sxm.{name}": cited for name, cited in system.chip.cited.items()},
        **{f"dgx-h100.{name}": cited for name, cited in system.cited.items() if not name.startswith("planes.")},
        **{f"room.{name}": cited for name, cited in room_assumptions().items()},
    }


@pytest.mark.parametrize("step", STEPS)
def test_printed_values_read_back_as_the_catalogue_has_them(step: str) -> None:
    rows = sources_of(step)
    for name, cited in used().items():
        assert parse_quantity(rows[name]["value"]).value == pytest.approx(cited.value, rel=1e-5), name
        assert rows[name]["source"] in all_sources(), name


@pytest.mark.parametrize("step", STEPS)
def test_every_layer_is_there(step: str) -> None:
    rows = sources_of(step)
    assert {row["layer"] for row in rows.values()} == {"spec", "calibration", "assumption"}
    assert rows["link constants"]["layer"] == "calibration"
    assert rows["dgx-h100.tiers.nvlink.bandwidth"]["value"] == "450 GB/s"
    assert rows["h100-sxm.peak.bf16"]["value"] == "989.4 TFLOP/s"
    assert rows["h100-sxm.memory.printed"]["value"] == "80 GB"


def test_explain_prints_the_same_values() -> None:
    text = supertwin(*STEPS["train"], "--explain").out
    assert "989.4 TFLOP/s" in text
    assert "e+14" not in text


@pytest.mark.parametrize(
    ("cited", "text"),
    [
        (Cited(989.4e12, "TFLOP/s", "x"), "989.4 TFLOP/s"),
        (Cited(80e9, "GB", "x"), "80 GB"),
        (Cited(2.69 / 3600, "USD/h", "x"), "2.69 USD/h"),
        (Cited(331776.0, "devices", "x"), "331776 devices"),
        (Cited(0.05, "%", "x"), "5 %"),
    ],
)
def test_stated_in_the_unit_of_the_source(cited: Cited, text: str) -> None:
    assert stated(cited) == text
    assert parse_quantity(text).value == pytest.approx(cited.value)
