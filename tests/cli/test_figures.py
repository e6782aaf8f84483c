"""Blocks of README that are written by `make figures`."""

from pathlib import Path

import pytest

from supertwin.cli.figures import METRICS, accuracy_table, block_of, cm384_table, replaced, session

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_cm384_table_of_readme_is_what_the_twin_says() -> None:
    assert block_of(README, "cm384") == cm384_table()


def test_session_of_readme_is_what_the_command_prints() -> None:
    shown = block_of(README, "session")
    assert session(shown) == shown


def test_accuracy_table_of_readme_agrees_with_the_accuracy_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "accuracy.md").read_text(encoding="utf-8")
    metrics = page.split("## By metric")[1].split("##")[0]
    for metric, title in METRICS.items():
        own = next(line for line in README.splitlines() if line.startswith(f"| {title} |")).split("|")
        written = next(line for line in metrics.splitlines() if line.startswith(f"| {metric} |")).split("|")
        assert own[2].strip().replace(",", "") == written[2].strip().replace(",", "")
        assert float(own[3].strip(" %")) == pytest.approx(float(written[3].strip(" %")), abs=0.051)


def test_accuracy_table_has_a_row_per_metric() -> None:
    one = {"n": 1234, "median_ape": 0.1, "p90_ape": 0.2, "bias": -0.05, "interval_coverage": 0.9}
    table = accuracy_table(dict.fromkeys(METRICS, one)).splitlines()
    assert len(table) == len(METRICS) + 2
    assert table[2].endswith("| 1,234 | 10.0 % | 20 % | -5.0 % | 90 % |")


def test_replaces_one_block_only() -> None:
    text = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n<!-- y -->\nold\n<!-- /y -->\n"
    assert replaced(text, "x", "new") == text.replace("old", "new", 1)
    with pytest.raises(ValueError, match="no block"):
        replaced(text, "z", "new")
