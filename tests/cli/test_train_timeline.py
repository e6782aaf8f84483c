"""`train --timeline`, `--trace`, `--straggler`."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.run import assert_refused, supertwin

TRAIN = ("train", "llama3.1-70b", "--on", "dgx-h100:64", "--tp", "4", "--pp", "4", "--global-batch", "64")


def fields(*arguments: str) -> dict[str, Any]:
    result = supertwin(*arguments, "--json")
    assert result.code == 0, result.err
    return json.loads(result.out)  # type: ignore[no-any-return]


def test_the_timelines_time_is_the_steps_and_both_are_given() -> None:
    plain, played = fields(*TRAIN), fields(*TRAIN, "--timeline")
    assert "timeline" not in plain
    timeline = played["timeline"]
    assert timeline["closed_form_s"] == pytest.approx(plain["step_time_s"])
    assert timeline["step_time_s"] == played["step_time_s"]
    assert timeline["difference"] == pytest.approx(played["step_time_s"] / plain["step_time_s"] - 1.0)
    assert timeline.keys() >= {"because", "trace", "events", "roles", "straggler_loss"}
    assert timeline["trace"] is None
    assert [role["role"] for role in timeline["roles"]] == [f"pipeline stage {stage}" for stage in range(4)]
    assert sum(part["time_s"] for part in played["breakdown"]) == pytest.approx(played["step_time_s"])


def test_trace_and_stragglers_ask_for_the_timeline(tmp_path: Path) -> None:
    path = tmp_path / "step.json.gz"
    slow = fields(*TRAIN, "--trace", str(path), "--straggler", "1:1.2", "--straggler", "3:1.1")
    assert slow["timeline"]["trace"] == str(path)
    assert slow["timeline"]["straggler_loss"] > 0.05
    assert json.loads(gzip.decompress(path.read_bytes()))["otherData"]["step_time_s"] == slow["step_time_s"]


def test_text_shows_both_times_and_a_row_per_stage() -> None:
    out = supertwin(*TRAIN, "--timeline").out
    assert "closed form" in out
    assert "because" in out
    assert all(f"stage {stage} " in out for stage in range(4))
    assert "F forward, B backward" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--straggler", "fast"), "--straggler: expected STAGE:FACTOR such as 3:1.2, got 'fast'"),
        (("--straggler", "9:1.2"), "straggler stage 9; the job has stages 0 to 3"),
        (("--straggler", "1:-2"), "straggler factor -2; expected a positive number"),
        (("--trace", "/no/such/folder/x.json"), "cannot write the trace /no/such/folder/x.json"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    result = supertwin(*TRAIN, *arguments)
    assert_refused(result)
    assert sentence in result.err
