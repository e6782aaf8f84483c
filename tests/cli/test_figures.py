"""Blocks of README and docs that are written by `make figures`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from supertwin.cli import figures
from supertwin.cli.figure_tables import METRICS, accuracy_table
from supertwin.cli.figures import COVERED, PREDICTED, README, ROOT, VALIDATED, coverage, replaced, session, shown
from supertwin.validation.intervals import inference_scores, training_scores
from supertwin.validation.run import validate

INFERENCE = ROOT / "src" / "supertwin" / "data" / "measurements" / "inference.csv"


@pytest.mark.parametrize("place", PREDICTED, ids=lambda place: place[1])
def test_tables_of_predictions_are_what_the_twin_says(place: tuple[str, str]) -> None:
    assert shown(*place) == PREDICTED[place]()


def test_tables_of_all_rows_are_what_the_twin_says() -> None:
    """README's are compared with the accuracy page below, which takes the other tables too."""
    report = validate({"inference": INFERENCE}, processes=1)
    for (page, name), table in VALIDATED.items():
        if page != README:
            assert shown(page, name) == table(report), name


def test_tables_of_coverage_are_what_the_intervals_keep() -> None:
    for place, table in coverage({"training": training_scores(), "inference": inference_scores()}).items():
        assert shown(*place) == table, place


def test_session_of_readme_is_what_the_command_prints() -> None:
    block = shown(README, "session")
    assert session(block) == block


def test_accuracy_table_of_readme_agrees_with_the_accuracy_page() -> None:
    readme = (ROOT / README).read_text(encoding="utf-8")
    page = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    metrics = page.split("## By metric")[1].split("##")[0]
    for metric, title in METRICS.items():
        own = next(line for line in readme.splitlines() if line.startswith(f"| {title} |")).split("|")
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


def test_every_block_of_a_page_is_written() -> None:
    """No block is left that nothing writes, which would go stale."""
    known = {*PREDICTED, *VALIDATED, *COVERED, (README, "session")}
    for path in (ROOT / README, *sorted((ROOT / "docs").glob("*.md"))):
        page = str(path.relative_to(ROOT))
        found = {(page, name) for name in re.findall(r"^<!-- (\w[\w-]*) -->$", path.read_text("utf-8"), re.MULTILINE)}
        assert found == {place for place in known if place[0] == page}


def test_a_block_is_put_into_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    (tmp_path / "page.md").write_text("a\n<!-- x -->\nold\n<!-- /x -->\n", encoding="utf-8")
    figures.write("page.md", "x", "new")
    assert figures.shown("page.md", "x") == "new"
