"""The page on machines: its example files load, its units are those of the parser."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from supertwin.core.errors import CatalogueError
from supertwin.core.units import UNITS, parse_quantity
from supertwin.machine import load_chip, load_system
from supertwin.room import bill_warnings, it_power_w

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "machines.md").read_text(encoding="utf-8")
EXAMPLES = {
    match[1]: textwrap.dedent(match[2]) for match in re.finditer(r"`([a-z-]+\.toml)`:\n\n((?:    .*\n|\n)+)", PAGE)
}


def written(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_text(EXAMPLES[name], encoding="utf-8")
    return path


def test_chip_of_the_page(tmp_path: Path) -> None:
    chip = load_chip(written(tmp_path, "twice-the-bandwidth.toml"))
    assert chip.memory_bytes_per_s == 3.2e12
    assert chip.tdp_w == 500.0


def test_system_of_the_page(tmp_path: Path) -> None:
    path = written(tmp_path, "my-server.toml")
    system = load_system(f"{path}:64")
    assert (system.full_devices, system.systems, system.chip.name) == (8, 8, "h200-sxm")
    assert system.price_usd == 310_000
    assert [tier.name for tier in system.tiers] == ["nvlink", "ethernet"]
    assert system.cited["price.system"].source == "offer-2026"
    assert it_power_w(load_system(path)) == pytest.approx(8 * 700 + 3500)
    assert bill_warnings(system) == ()


def test_system_like_another(tmp_path: Path) -> None:
    base, mine = load_system("dgx-h200"), load_system(written(tmp_path, "faster-adapters.toml"))
    assert (mine.chip, mine.tiers, mine.counts) == (base.chip, base.tiers, base.counts)
    assert mine.price_usd == 350_000
    assert mine.power_w is None, "the power of the base is that of another machine"
    assert it_power_w(mine) == pytest.approx(it_power_w(base) + 8 * (40 - 25))
    assert mine.name == "faster-adapters"


def test_system_like_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('title = "a"\nlike = "b.toml"\n', encoding="utf-8")
    (tmp_path / "b.toml").write_text('title = "b"\nlike = "a.toml"\n', encoding="utf-8")
    with pytest.raises(CatalogueError, match="cycle: a -> b -> a"):
        load_system(tmp_path / "a.toml")


def test_an_unknown_source_offers_the_one_for_users(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('title = "x"\nlike = "h100-sxm"\n[power]\ntdp = { value = "500 W", source = "me" }\n', "utf-8")
    with pytest.raises(CatalogueError, match='source = "user"'):
        load_chip(path)
    path.write_text('title = "x"\nlike = "h100-sxm"\n[power]\ntdp = { value = "500 W" }\n', "utf-8")
    with pytest.raises(CatalogueError, match=r'no source given.*source = "user"'):
        load_chip(path)


def test_the_page_lists_every_unit_under_its_dimension() -> None:
    rows = dict(re.findall(r"^\| ([a-z_]+) \| (`[^|]+`) \|$", PAGE, re.MULTILINE))
    listed = {dimension: set(re.findall(r"`([^`]+)`", units)) for dimension, units in rows.items()}
    expected: dict[str, set[str]] = {}
    for unit, (_, dimension) in UNITS.items():
        expected.setdefault(dimension, set()).add(unit)
    assert listed == expected
    for dimension, units in listed.items():
        for unit in units:
            assert parse_quantity(f"1 {unit}", dimension).dimension == dimension
