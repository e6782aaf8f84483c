"""`show`: what there is, and one entry of each kind."""

from __future__ import annotations

import json
import shutil
from importlib import resources
from pathlib import Path

import pytest

from supertwin.machine import chip_names, system_names
from supertwin.model import model_names
from tests.cli.run import assert_refused, supertwin

CHIPS = Path(str(resources.files("supertwin"))) / "data" / "chips"


def test_without_a_name_everything_is_listed_one_line_each() -> None:
    listed = json.loads(supertwin("show", "--json").out)
    names = {kind: [entry["name"] for entry in listed[kind]] for kind in ("systems", "chips", "models")}
    assert names == {"systems": system_names(), "chips": chip_names(), "models": list(model_names())}
    text = supertwin("show").out
    for name in (*system_names(), *chip_names(), *model_names()):
        assert f"\n  {name} " in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_a_model() -> None:
    """DeepSeek-V3 technical report (arXiv 2412.19437): 671 B parameters, 37 B active; 61 layers of 512 + 64 values."""
    shown = json.loads(supertwin("show", "deepseek-r1", "--json").out)
    assert shown["parameters"] == pytest.approx(671e9, rel=0.002)
    assert shown["active_parameters"] == pytest.approx(37e9, rel=0.02)
    assert shown["kv_cache_bytes_per_token"] == 61 * (512 + 64) * 2
    assert (shown["layers"], shown["experts"], shown["experts_per_token"]) == (61, 256, 8)
    assert "671.03 B" in supertwin("show", "deepseek-r1").out


def test_a_chip_and_the_file_of_one(tmp_path: Path) -> None:
    shown = json.loads(supertwin("show", "h100-sxm", "--json").out)
    assert shown["peak_flop_per_s"]["bf16"] == pytest.approx(989.4e12, rel=1e-3)
    assert shown["system"] == "dgx-h100"
    path = tmp_path / "mychip.toml"
    shutil.copy(CHIPS / "h100-sxm.toml", path)
    assert json.loads(supertwin("show", str(path), "--json").out)["name"] == "mychip"
    explained = supertwin("show", str(path), "--explain").out
    assert "Where each value comes from" in explained


def test_the_file_of_a_chip_stands_for_its_usual_system(tmp_path: Path) -> None:
    path = tmp_path / "mychip.toml"
    shutil.copy(CHIPS / "h100-sxm.toml", path)
    ours = json.loads(supertwin("infer", "llama-3.1-8b", "--on", f"{path}:4", "--tp", "4", "--json").out)
    theirs = json.loads(supertwin("infer", "llama-3.1-8b", "--on", "dgx-h100:4", "--tp", "4", "--json").out)
    assert ours["layout"] == theirs["layout"]
    assert ours["memory"]["capacity_bytes"] == theirs["memory"]["capacity_bytes"]


def test_a_chip_that_is_like_another_stands_for_its_system(tmp_path: Path) -> None:
    """The form of docs/machines.md; where only systems have an answer, the sentence says what the file is."""
    path = tmp_path / "fast.toml"
    twice = 'like = "ascend-910c-die"\n[scale]\n"memory.bandwidth" = { value = "2 x", source = "user" }\n'
    path.write_text('title = "twice"\n' + twice, encoding="utf-8")
    arguments = ("--tp", "2", "--batch", "1", "--json")
    ours = json.loads(supertwin("infer", "llama-3.1-8b", "--on", f"{path}:2", *arguments).out)
    theirs = json.loads(supertwin("infer", "llama-3.1-8b", "--on", "cm384:2", *arguments).out)
    assert ours["step_time_s"] < theirs["step_time_s"]
    for command in (("compare", "cm384", str(path)), ("fabric", str(path))):
        result = supertwin(*command)
        assert_refused(result)
        assert "fast is a chip, not a system; expected a system such as cm384" in result.err


def test_a_chip_where_a_system_is_expected_is_answered_with_its_system() -> None:
    result = supertwin("infer", "llama-3.1-8b", "--on", "h100-sxm:8")
    assert_refused(result)
    assert "h100-sxm is a chip, not a system; expected a system such as dgx-h100" in result.err
