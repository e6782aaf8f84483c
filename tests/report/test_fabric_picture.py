"""Pictures of a fabric."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from supertwin.core.errors import InputError, MissingExtra
from supertwin.machine import load_system
from supertwin.network.topology import build
from supertwin.report.fabric_picture import heat_map, planes_picture

LABELS = {"title": "t", "unit": "GB/s", "axis": "package"}


@pytest.mark.parametrize("name", ["cm384", "gb200-nvl72", "dgx-h100:64", "mi300x-8", "tpu-v5p:64", "atlas-950:512"])
def test_planes_of_every_kind_of_fabric(name: str, tmp_path: Path) -> None:
    path = tmp_path / "planes.png"
    planes_picture(build(load_system(name)), path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_picture_says_what_the_fabric_is_made_of(tmp_path: Path) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"svg.fonttype": "none"}):
        path = tmp_path / "planes.svg"
        planes_picture(build(load_system("cm384")), path)
    text = path.read_text(encoding="utf-8")
    for words in ("112 switch chips in 7 sub-planes", "5,376 optical links of 28 GB/s", "node 47", "8 chips of 2 dies"):
        assert words in text


def test_heat_map_of_unreachable_pairs(tmp_path: Path) -> None:
    values = np.full((8, 8), 164.0)
    values[3] = np.nan
    heat_map(values, LABELS, tmp_path / "map.png")
    heat_map(np.zeros((2, 2)), LABELS, tmp_path / "map.svg")
    assert (tmp_path / "map.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")


def test_a_picture_needs_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"supertwin\[plot\]"):
        heat_map(np.ones((2, 2)), LABELS, tmp_path / "map.png")


def test_a_picture_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write"):
        heat_map(np.ones((2, 2)), LABELS, tmp_path / "none" / "map.png")
