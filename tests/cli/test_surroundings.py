"""Output on narrow terminals, in poor encodings, on full disks; surroundings that are not as named."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from supertwin.cli import output as cli_output
from supertwin.report.tables import grid
from tests.cli.run import assert_refused, supertwin

INFER = ("infer", "llama-3.1-8b", "--on", "dgx-h100:8", "--tp", "8")


def program(*arguments: str, **surroundings: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "supertwin", *arguments],
        env={**os.environ, **surroundings},
        capture_output=True,
        check=False,
    )


def test_bars_are_ascii_where_the_encoding_has_no_others() -> None:
    result = program(*INFER, PYTHONIOENCODING="ascii")
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"####" in result.stdout
    assert "█" in supertwin(*INFER).out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("output", [(), ("--json",)])
def test_a_full_disk_is_one_sentence(output: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [sys.executable, "-m", "supertwin", "show", "cm384", *output],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert result.returncode == 1
    assert result.stderr == b"supertwin: cannot write the result: No space left on device\n"


def test_numbers_are_never_cut_on_a_narrow_terminal() -> None:
    rows = [("a long name of a part", "1,234,567.8 ms", "100.0 %", "compute", "#" * 30)]
    page = io.StringIO()
    Console(file=page, width=60).print(grid(("part", "time", "share", "bound", ""), rows, wrap=4), crop=False)
    for number in ("1,234,567.8 ms", "100.0 %", "compute"):
        assert number in page.getvalue()


def test_a_step_on_60_columns_shows_every_number_of_the_wide_view(monkeypatch: pytest.MonkeyPatch) -> None:
    def numbers(text: str) -> set[str]:
        return set(re.findall(r"[0-9][0-9.,]*(?: (?:ms|us|s|%|GiB|MiB|kW))", " ".join(text.split())))

    wide = supertwin(*INFER).out
    monkeypatch.setattr(cli_output, "_PLAIN_WIDTH", 60)
    assert numbers(wide) <= numbers(supertwin(*INFER).out)


def test_a_calibration_folder_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SUPERTWIN_CALIBRATION", str(tmp_path / "none"))
    result = supertwin(*INFER)
    assert_refused(result)
    assert "SUPERTWIN_CALIBRATION names" in result.err
    monkeypatch.setenv("SUPERTWIN_CALIBRATION", str(tmp_path))
    assert supertwin(*INFER).code == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("train", "llama3.1-8b", "--on"), "option '--on' requires an argument; see supertwin --help"),
        (("train", "llama3.1-8b", "--framework", "megatronn"), "unknown framework 'megatronn'; did you mean megatron"),
        (("infer", "llama-3.1-8b", "--framework", "vllmm"), "unknown framework 'vllmm'; did you mean vllm"),
    ],
)
def test_more_bad_input(arguments: tuple[str, ...], sentence: str) -> None:
    result = supertwin(*arguments)
    assert_refused(result)
    assert sentence in result.err


@pytest.mark.parametrize("name", ["vLLM 0.14", "sglang", "CloudMatrix-Infer", "TensorRT-LLM", "generic"])
def test_engines_with_a_version_are_known(name: str) -> None:
    result = supertwin(*INFER, "--framework", name, "--json")
    assert result.code == 0
    assert "framework" not in json.loads(result.out)["defaults"]


def test_words_are_the_same_in_upper_case() -> None:
    upper = json.loads(supertwin(*INFER, "--weight-dtype", "FP8", "--json").out)
    assert upper["layout"]["weight_dtype"] == "fp8"
    assert json.loads(supertwin("claims", "--only", "c01", "--json").out)["claims"][0]["id"] == "C01"


def test_a_table_without_rows_and_one_with_an_id_twice(tmp_path: Path) -> None:
    path = tmp_path / "kernels.csv"
    header = "id,chip,kernel,dtype,m,n,k,direction,measured_us"
    path.write_text(header + "\n", encoding="utf-8")
    result = supertwin("validate", "--kernels", str(path))
    assert_refused(result)
    assert "has a header and no rows" in result.err
    row = "x,h100-sxm,gemm,bf16,8192,8192,8192,fwd,1600"
    path.write_text("\n".join([header, row, row]) + "\n", encoding="utf-8")
    result = supertwin("validate", "--kernels", str(path), "--json")
    assert result.code == 0
    assert result.err == f"supertwin: note: {path}: 1 ids are there more than once: x\n"
