"""Settings of published rows that come from the files behind them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from supertwin.validation import tables
from supertwin.validation.predictors.scripts import corrected, counter_of, dimensions_of, settings_of
from supertwin.validation.predictors.training import case_of
from supertwin.validation.tables import Row


@pytest.fixture(scope="module")
def rows() -> dict[str, Row]:
    return {row.id: row for row in tables.load("training").rows}


def starting(rows: dict[str, Row], start: str) -> Iterator[Row]:
    return (row for name, row in rows.items() if name.startswith(start))


def test_gradients_of_bloom_change_at_line_899(rows: dict[str, Row]) -> None:
    assert corrected(rows["bloom-891"]).text("framework") == "megatron-deepspeed-zero"
    assert corrected(rows["bloom-907"]).text("framework") == "megatron-deepspeed"
    assert [corrected(rows[f"bloom-{line}"]).text("sharding") for line in (669, 670)] == ["zero1", "none"]


def test_counters(rows: dict[str, Row]) -> None:
    assert {counter_of(row) for row in starting(rows, "bloom-")} == {"device"}
    assert {counter_of(row) for row in starting(rows, "flagperf-")} == {"device"}
    assert {counter_of(row) for row in starting(rows, "msci-")} == {"first-step"}
    assert {counter_of(row) for row in starting(rows, "simumax-")} == {"allocated"}


def test_options_of_a_mindspeed_test(rows: dict[str, Row]) -> None:
    found = settings_of(rows["msci-llama2-tp2-pp4-vpp2-swap"])
    assert found["states_reused"] is True
    assert found["offload_modules"] == ("attention",)
    assert settings_of(rows["msci-llama2-tp2-pp4-vpp2-ptd"]) == {}
    assert dimensions_of(rows["msci-llama3-tp2-pp2-vpp1"]) == {"vocab": 128256}


def test_only_empty_cells_are_filled_and_wrong_ones_replaced(rows: dict[str, Row]) -> None:
    row = corrected(rows["flagperf-mixtral-8x7b-h100"])
    assert (row.integer("micro_batch"), row.integer("global_batch")) == (3, 1200)
    assert row.integer("tp") == rows["flagperf-mixtral-8x7b-h100"].integer("tp")
    assert case_of(rows["flagperf-qwen15-moe-a800-bf16"])[0].model.name == "qwen1.5-moe-8x5504"


def test_nothing_reads_a_measured_column(rows: dict[str, Row]) -> None:
    for name in ("bloom-389", "msci-deepseek-v2-mcore-tp1-pp1-ep8", "flagperf-mixtral-8x7b-h100"):
        row = rows[name]
        blank = Row(row.table, row.line, {k: None if k.startswith("measured") else v for k, v in row.items()})
        assert (settings_of(blank), counter_of(blank)) == (settings_of(row), counter_of(row))
