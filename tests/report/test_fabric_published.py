"""Rows of collectives.csv by library, as the fabric command predicts them."""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources
from statistics import median

import pytest

from supertwin.network.rows import measured_collective_row, predict_collective_row


@cache
def errors() -> dict[str, float]:
    """|predicted / measured - 1| by row."""
    text = (resources.files("supertwin") / "data/measurements/collectives.csv").read_text(encoding="utf-8")
    found = {}
    for row in csv.DictReader(text.splitlines()):
        predicted, measured = predict_collective_row(row), measured_collective_row(row)
        if not isinstance(predicted, str) and not isinstance(measured, str):
            found[f"{row['id']} {row['chip']} {row['system']} {row['op']}"] = abs(predicted[1] / measured[1] - 1)
    return found


@pytest.mark.parametrize("chip", ["h100-sxm", "h200-sxm", "b200-sxm"])
def test_nccl(chip: str) -> None:
    mine = [e for name, e in errors().items() if chip in name and " dispatch" not in name and " combine" not in name]
    assert len(mine) >= 10
    assert median(mine) <= 0.15


def test_deepep_on_h800() -> None:
    mine = [e for name, e in errors().items() if "h800" in name and (" dispatch" in name or " combine" in name)]
    assert len(mine) >= 20
    assert median(mine) <= 0.15


def test_production_collectives_of_the_a3() -> None:
    """msModeling communication alignment report: small-message floor, protocol switch, production overhead."""
    mine = [e for name, e in errors().items() if name.startswith("a3-hccl-prod")]
    assert len(mine) == 12
    assert max(mine) <= 0.10


def test_all_rows() -> None:
    every = sorted(errors().values())
    assert median(every) <= 0.08
    assert every[int(0.9 * len(every))] <= 0.30
