"""The program as users meet it: help, exit codes, JSON, errors in one sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from supertwin.cli.app import COMMANDS
from tests.cli.run import assert_refused, processor_s, supertwin


@pytest.mark.parametrize("arguments", [("--help",), ("-h",), ()])
def test_help_lists_every_command_and_no_other(arguments: tuple[str, ...]) -> None:
    result = supertwin(*arguments)
    assert result.code == 0
    listed = [line.split()[0] for line in result.out.split("Commands:")[1].splitlines() if line.strip()]
    assert listed == [command.name for command in COMMANDS]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_of_a_command_shows_its_examples(command: object) -> None:
    result = supertwin(command.name, "-h")  # type: ignore[attr-defined]
    assert result.code == 0
    for example in command.examples:  # type: ignore[attr-defined]
        assert example in result.out


def test_help_starts_fast() -> None:
    """Under 0.4 s of processor time, so that other work on the machine does not count."""
    assert min(processor_s("--help") for _ in range(3)) < 0.4


def test_help_imports_no_heavy_library() -> None:
    code = (
        "import sys; from supertwin.cli.main import main; main(['--help']);"
        "sys.exit(', '.join({'numpy', 'scipy', 'polars', 'matplotlib', 'rich'} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr.strip() == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("shwo",), "no such command 'shwo'. Did you mean 'show'"),
        (("compare",), "missing argument 'SYSTEMS...'"),
        (("show", "cm38"), "unknown system, chip or model 'cm38'; did you mean cm384"),
        (("compare", "cm38", "cm384"), "unknown system 'cm38'; did you mean cm384"),
        (("show", "cm384:0"), "expected at least 1 device"),
        (("show", "cm384:x"), "expected a whole number of devices"),
        (("show", ""), "expected a NAME, got an empty one"),
        (("compare", "cm384"), "expected at least 2 SYSTEMS, got 1"),
        (("train", "llama3.1-8b", "--tpp", "2"), "--tp"),
        (("train", "llama3.1-8b", "--zzz", "2"), "expected one of"),
        (("train", "llama3.1-8b", "--tp", "two"), "--tp: expected a whole number of at least 1, got 'two'"),
        (("train", "llama3.1-8b", "--tp", "1.5"), "--tp: expected a whole number"),
        (("train", "llama3.1-8b", "--tp", "-1"), "--tp: expected a whole number of at least 1, got '-1'"),
        (("train", "llama3.1-8b", "--precision", "bf61"), "unknown value of --precision 'bf61'; did you mean bf16"),
        (("train", "llama3.1-9b"), "unknown model 'llama3.1-9b'; did you mean llama3.1-"),
        (("infer", "llama3.1-8b", "--batch", "nan"), "--batch: expected a number above 0 or max, got 'nan'"),
        (("infer", "llama3.1-8b", "--batch", "0"), "--batch: expected a number above 0"),
        (("infer", "llama3.1-8b", "--mtp-acceptance", "1.5"), "at most 1, got '1.5'"),
        (("infer", "llama3.1-8b", "--phase", "decod"), "did you mean decode"),
        (("validate", "--kernels", "/nowhere.csv"), "cannot read /nowhere.csv"),
        (("validate", "--kernels", "/nowhere.csv", "--write", "docs"), "--write describes the shipped tables"),
        (("claims", "--only", "C99"), "unknown claim 'C99'"),
        (("calibrate", "--device", "gpu"), "unknown value of --device 'gpu'"),
        (("calibrate", "--device", "cpu", "--from", "x"), "expected one of them"),
        (("calibrate", "--device", "npu"), "cannot be measured yet"),
        (("calibrate", "--family", "links"), "expected it together with --from"),
    ],
)
@pytest.mark.parametrize("output", [(), ("--json",)], ids=["text", "json"])
def test_bad_input_is_one_sentence_and_exit_2(
    arguments: tuple[str, ...], sentence: str, output: tuple[str, ...]
) -> None:
    result = supertwin(*arguments, *output)
    assert_refused(result)
    assert sentence in result.err


@pytest.mark.parametrize("debug", [False, True])
def test_a_defect_is_one_sentence_and_exit_1(monkeypatch: pytest.MonkeyPatch, debug: bool) -> None:
    from supertwin import machine

    def broken(_: str) -> None:
        raise RuntimeError("a\ndefect")

    monkeypatch.setattr(machine, "load_system", broken)
    monkeypatch.setenv("SUPERTWIN_DEBUG", "1" if debug else "0")
    result = supertwin("show", "cm384")
    assert result.code == 1
    assert "internal error (RuntimeError: a defect); please report it" in result.err
    assert ("Traceback" in result.err) is debug


def test_a_closed_pipe_is_quiet() -> None:
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(
        [sys.executable, "-m", "supertwin", "show", "cm384", "--json"],
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert process.returncode == 0
    assert process.stderr == b""


@pytest.mark.parametrize("system", ["cm384", "cm384:128", "gb200-nvl72", "dgx-h100:1024"])
def test_show(system: str) -> None:
    shown = json.loads(supertwin("show", system, "--json").out)
    assert shown["schema"] == "supertwin.show/1"
    assert shown["devices"] == int(system.partition(":")[2] or shown["full_devices"])
    assert shown["peak_flop_per_s"]["bf16"] == shown["devices"] * shown["chip"]["peak_flop_per_s"]["bf16"]
    assert shown["sources"]
    assert all(entry["source"] or entry["kind"] != "spec" for entry in shown["sources"])


def test_show_cm384_has_the_published_inventory() -> None:
    """384 packages of two dies, 48 nodes of 16 dies: CloudMatrix384 paper, arXiv 2506.12708, section 3."""
    shown = json.loads(supertwin("show", "cm384", "--json").out)
    assert (shown["devices"], shown["chips"], shown["counts"]["nodes"]) == (768, 384, 48)


def test_views_fit_100_columns_without_colour() -> None:
    compared = ("compare", "cm384", "dgx-h100", "gb200-nvl72", "dgx-h800", "mi300x-8")
    for arguments in (("show", "cm384"), ("show", "cm384", "--explain"), compared, ("claims",)):
        result = supertwin(*arguments)
        assert result.code == 0
        assert "\x1b" not in result.out
        lines = result.out.splitlines()
        assert max(len(line) for line in lines) <= 100, arguments
        assert sum(len(line.split()) <= 1 for line in lines) < 0.5 * len(lines), "a column is squeezed"
    text = supertwin(*compared).out
    assert text.count("cm384:768") == 2
    assert all(f"{name}:" in text for name in compared[1:])


def test_compare_gives_ratios_to_the_first() -> None:
    compared = json.loads(supertwin("compare", "dgx-h100:8", "dgx-h100:16", "--json").out)
    assert compared["schema"] == "supertwin.compare/1"
    memory = next(row for row in compared["rows"] if row["quantity"] == "memory")
    assert memory["ratios"] == [1.0, 2.0]


def test_claims() -> None:
    result = supertwin("claims", "--only", "C01", "--json")
    answer = json.loads(result.out)
    assert answer["schema"] == "supertwin.claims/1"
    (claim,) = answer["claims"]
    assert {"id", "claimed", "computed", "unit", "verdict", "because", "sources"} <= claim.keys()
    assert claim["verdict"] in ("holds", "fails", "depends", "open")
