"""One bill for all steps; what it leaves out is said."""

from dataclasses import replace

import pytest

from supertwin.machine import load_system, system_names
from supertwin.room import Activity, bill, bill_warnings, machine_rows

BUSY = Activity(0.5, 0.2, 0.1, 1.0)


def test_parts_of_the_bill_agree() -> None:
    system = load_system("dgx-h100")
    got = bill(system, 8, 1000.0, BUSY)
    assert got.power_w is not None
    assert got.it_power_w == pytest.approx(got.power_w / system.pue)
    assert got.energy_j_per_token == pytest.approx(got.power_w / 8000.0)


def test_system_without_parts_or_price_is_said() -> None:
    system = load_system("dgx-h100")
    assert bill_warnings(system) == ()
    bare = replace(system, parts=(), price_usd=None, chip=replace(system.chip, cited={}))
    power, price = bill_warnings(bare)
    assert "chips and their cooling alone" in power
    assert "no price" in price
    assert bill(bare, 8, 1000.0, BUSY).usd_per_million_tokens is None


@pytest.mark.parametrize("name", system_names())
def test_unpriced_systems_warn(name: str) -> None:
    system = load_system(name)
    unpriced = bill(system, 1, 1.0, BUSY).usd_per_million_tokens is None
    assert any("no price" in text for text in bill_warnings(system)) == unpriced


def test_rows_name_every_number_that_the_bill_stands_on() -> None:
    rows = {name: (value, source, layer) for name, value, source, layer in machine_rows(load_system("cm384"))}
    assert rows["cm384.price.system"] == ("8.2 MUSD", "ft-cm384", "spec")
    assert rows["cm384.power.pue"][2] == "assumption"
    assert rows["cm384.tiers.ub-supernode.bandwidth"] == ("196 GB/s", "cm2", "spec")
    assert rows["cm384.parts.l2_device.max"][0] == "1200 W"
    assert rows["ascend-910c-die.power.tdp"][0] == "400 W"
    assert rows["room.price.amortisation"] == ("4 years", "supertwin", "assumption")
    assert {layer for _, _, layer in rows.values()} == {"spec", "assumption"}
