"""Two hundred damaged inputs: configs, catalogue files, tables and flags. Each is legal, infeasible or one sentence."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supertwin.cli.app import COMMANDS
from tests.cli.run import Result, supertwin

DATA = Path(str(resources.files("supertwin") / "data"))
FUZZ = settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
CONFIGS = ("llama3.1-8b", "deepseek-v3", "qwen3-next-80b-a3b", "gpt-oss-120b")
WORDS = st.sampled_from(
    [
        "",
        "0",
        "-1",
        "1.5",
        "nan",
        "inf",
        "1e309",
        "99999999999999999999",
        "true",
        "None",
        "[]",
        "{}",
        "x" * 5000,
        "\u2603",
        "--",
    ]
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 10**20),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)
RARE = st.integers(0, 3)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that a flag names are written to a folder of the test."""
    monkeypatch.chdir(tmp_path)


def assert_clear(result: Result) -> None:
    """Legal (0), refused (2) or infeasible (3); never a traceback, never a defect; errors are one sentence."""
    assert result.code in (0, 2, 3), result.err
    assert "Traceback" not in result.out + result.err
    if result.code:
        assert result.err.startswith("supertwin: ")
        assert result.err.count("\n") == 1
        assert len(result.err) < 1200, result.err[:2000]
    if result.code == 2:
        assert result.out == ""


def damaged(text: str, draw: Any) -> str:
    """The text with one piece cut, doubled or replaced."""
    at = draw(st.integers(0, len(text)))
    length = draw(st.integers(0, 40))
    put = draw(st.one_of(WORDS, st.text(max_size=6), st.just(text[at : at + length] * 2)))
    return text[:at] + put + text[at + length :]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_undamaged_configs_are_there(name: str) -> None:
    assert (DATA / "models" / f"{name}.json").is_file()


@FUZZ
@given(data=st.data())
def test_damaged_model_configs(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "config.json"
    text = (DATA / "models" / f"{data.draw(st.sampled_from(CONFIGS))}.json").read_text(encoding="utf-8")
    if data.draw(RARE):
        config = json.loads(text)
        key = data.draw(st.sampled_from(sorted(config)))
        if data.draw(RARE):
            config[key] = data.draw(VALUES)
        else:
            del config[key]
        text = json.dumps(config)
    else:
        text = damaged(text, data.draw)
    path.write_text(text, encoding="utf-8", errors="replace")
    layout = ("--tp", "8", "--dp", "1", "--ep", "1", "--batch", "4", "--kv-len", "1024")
    assert_clear(supertwin("infer", str(path), "--on", "dgx-h200:8", *layout))


@FUZZ
@given(data=st.data())
def test_damaged_catalogue_files(tmp_path: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["cm384", "dgx-h100", "gb200-nvl72"]))
    text = (DATA / "systems" / f"{name}.toml").read_text(encoding="utf-8")
    if data.draw(RARE):
        lines = text.splitlines()
        at = data.draw(st.integers(0, len(lines) - 1))
        key, equals, _ = lines[at].partition("=")
        lines[at] = f"{key}{equals} {data.draw(st.one_of(WORDS, VALUES.map(json.dumps)))}" if equals else ""
        text = "\n".join(lines)
    else:
        text = damaged(text, data.draw)
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8", errors="replace")
    assert_clear(supertwin("show", str(path), "--json"))


@FUZZ
@given(data=st.data())
def test_damaged_tables(tmp_path: Path, data: st.DataObject) -> None:
    table = data.draw(st.sampled_from(["training", "inference", "kernels", "collectives"]))
    lines = (DATA / "measurements" / f"{table}.csv").read_text(encoding="utf-8").splitlines()
    at = data.draw(st.integers(1, len(lines) - 2))
    if data.draw(RARE):
        cells = lines[at].split(",")
        cells[data.draw(st.integers(0, len(cells) - 1))] = data.draw(WORDS)
        text = "\n".join([lines[0], ",".join(cells), lines[at + 1]]) + "\n"
    else:
        text = damaged("\n".join([lines[0], lines[at], lines[at + 1]]) + "\n", data.draw)
    path = tmp_path / "given.csv"
    path.write_text(text, encoding="utf-8", errors="replace")
    result = supertwin("validate", f"--{table}", str(path), "--json")
    assert_clear(result)
    if result.code == 0:
        answer = json.loads(result.out)
        assert all("internal" not in skip["reason"] for skip in answer["skipped"]), answer["skipped"]


@FUZZ
@given(data=st.data())
def test_damaged_flags(data: st.DataObject) -> None:
    name, model = data.draw(st.sampled_from([("train", "llama3.1-8b"), ("infer", "llama-3.1-8b")]))
    command = next(command for command in COMMANDS if command.name == name)
    arguments = [name, model, "--on", "dgx-h100:8"]
    for option in data.draw(st.lists(st.sampled_from(command.options), min_size=1, max_size=3)):
        flag = option.flag if data.draw(RARE) else damaged(option.flag, data.draw).replace("\0", "")
        numbers = st.sampled_from(["1", "2", "3", "7", "8", "1024", "100000", "1000000000000"])
        arguments.append(flag)
        if option.kind != "yesno":
            arguments.append(data.draw(st.one_of(WORDS, numbers, st.text(st.characters(codec="utf-8"), max_size=5))))
    assert_clear(supertwin(*arguments))


ODD = ("nan", "-inf", "1e400", "0", "-1", "1.5", "99999999999999999999", "", "\u2603", "x" * 3000)


@pytest.mark.parametrize("value", ODD)
def test_odd_values_of_every_flag_of_infer(value: str) -> None:
    """Alone and in a deployment; a number that is printed is a number."""
    infer = next(command for command in COMMANDS if command.name == "infer")
    for option in infer.options:
        phase = ("--phase", "serve") if "Serve" in option.help else ()
        if option.kind in ("yesno", "path") or option.flag == "--phase":
            continue
        result = supertwin("infer", "llama-3.1-8b", "--on", "dgx-h100:8", *phase, option.flag, value, "--json")
        assert_clear(result)
        assert not {"NaN", "Infinity"} & set(result.out.replace(",", " ").split()), (option.flag, value)
        if value in ("nan", "-inf", "1e400", "", "\u2603"):
            assert result.code == 2, (option.flag, value)


ODD_MODELS = ("", "nope", "{tmp}", "{tmp}/missing.json", "{tmp}/empty.json", "{tmp}/list.json", "{tmp}/bytes.json")
ODD_SYSTEMS = ("", "cm384:", "cm384:0", "cm384:-1", "cm384:x", "cm384:99999999999999", ":8", "h100-sxm:8", "/dev/null")


@pytest.mark.parametrize("model", ODD_MODELS)
def test_odd_models_are_refused(tmp_path: Path, model: str) -> None:
    (tmp_path / "empty.json").write_text("", encoding="utf-8")
    (tmp_path / "list.json").write_text("[1]", encoding="utf-8")
    (tmp_path / "bytes.json").write_bytes(bytes(range(256)))
    result = supertwin("infer", model.format(tmp=tmp_path), "--on", "dgx-h100:8")
    assert_clear(result)
    assert result.code == 2


@pytest.mark.parametrize("system", ODD_SYSTEMS)
def test_odd_systems_are_refused(system: str) -> None:
    result = supertwin("infer", "llama-3.1-8b", "--on", system)
    assert_clear(result)
    assert result.code == 2


@FUZZ
@given(data=st.data())
def test_random_deployments_of_infer(data: st.DataObject) -> None:
    """Legal words in any combination: an answer, a refusal or an infeasible result; figures are finite."""
    infer = next(command for command in COMMANDS if command.name == "infer")
    options = [o for o in infer.options if o.kind != "path" and o.flag not in ("--on", "--phase", "--framework")]
    system = data.draw(st.sampled_from(["cm384:64", "dgx-h100:16", "gb200-nvl72:8", "mi300x-8", "kunpeng-node"]))
    model = data.draw(st.sampled_from(["deepseek-r1", "llama-3.1-8b", "gpt-oss-120b", "qwen3-next-80b-a3b"]))
    phase = data.draw(st.sampled_from(["prefill", "decode", "mixed", "serve"]))
    arguments = ["infer", model, "--on", system, "--phase", phase]
    for option in data.draw(st.lists(st.sampled_from(options), max_size=4, unique=True)):
        arguments.append(option.flag)
        if option.kind != "yesno":
            sizes = st.sampled_from(["1", "2", "8", "16", "64", "0.5", "1000"])
            arguments.append(data.draw(st.sampled_from(option.choices) if option.choices else sizes))
    if data.draw(RARE) == 0:
        arguments.append("--explain")
    result = supertwin(*arguments)
    assert_clear(result)
    assert not {"nan", "inf", "None"} & set(result.out.split()), result.out
