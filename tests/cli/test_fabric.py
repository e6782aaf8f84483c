"""`supertwin fabric` from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supertwin.cli.fabric import COMMAND
from supertwin.cli.sizes import parse_sizes
from supertwin.core.errors import InputError
from tests.cli.run import assert_refused, supertwin


def answer(*arguments: str, code: int = 0) -> dict:  # type: ignore[type-arg]
    result = supertwin("fabric", *arguments, "--json")
    assert result.code == code, result.err
    fields = json.loads(result.out)
    assert fields["schema"] == "supertwin.fabric/1"
    return fields  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("1 GiB", [2.0**30]),
        ("1GiB", [2.0**30]),
        ("64 KB", [64e3]),
        ("64 kB, 2MB", [64e3, 2e6]),
        ("4096", [4096.0]),
        ("1.5 MiB,8", [1.5 * 2**20, 8.0]),
    ],
)
def test_sizes(text: str, sizes: list[float]) -> None:
    assert parse_sizes("--bytes", text) == sizes


@pytest.mark.parametrize("text", ["", ",", "1 Gib", "1 GiX", "-1", "nan", "1e9", "0", "0.5", "9999999 TB", "1 GiB;2"])
def test_sizes_that_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--bytes"):
        parse_sizes("--bytes", text)


def test_overview() -> None:
    fields = answer("cm384")
    assert {row["kind"]: row["count"] for row in fields["parts"]}["switch-l2"] == 112
    assert all(row["ok"] for row in fields["checks"])
    text = supertwin("fabric", "cm384").out
    assert "112 chips, at most 48 of 48 ports in use" in text
    assert max(map(len, text.splitlines())) <= 100


def test_collective_as_a_list_of_sizes() -> None:
    fields = answer("cm384", "--collective", "all-to-all", "--bytes", "1 MiB,64 MiB", "--devices", "64")
    assert [row["bytes"] for row in fields["rows"]] == [2.0**20, 2.0**26]
    assert fields["rows"][1]["flow"]["time_s"] == pytest.approx(fields["rows"][1]["closed"]["time_s"], rel=0.05)
    assert "GB/s" in supertwin("fabric", "cm384:64", "--collective", "all-to-all").out


@pytest.mark.parametrize("level", ["closed", "flow"])
def test_one_level_only(level: str) -> None:
    row = answer("cm384:32", "--collective", "all-reduce", "--bytes", "1 MiB", "--level", level)["rows"][0]
    assert [name for name in ("closed", "flow") if row[name]] == [level]


def test_algorithms_differ() -> None:
    def time_s(algorithm: str) -> float:
        arguments = ("--collective", "all-reduce", "--bytes", "64 MiB", "--algorithm", algorithm)
        return float(answer("dgx-h100:64", *arguments)["rows"][0]["flow"]["time_s"])

    assert time_s("ring") != pytest.approx(time_s("tree"), rel=0.01)


def test_faults_are_listed_one_by_one() -> None:
    fields = answer("cm384:64", "--fault", "node1/ub-l1-2", "--fault", "node2/npu0")
    assert fields["faults"] == ["node1/ub-l1-2", "node2/npu0"]
    assert fields["devices_lost"] == ["node2/npu0/die0", "node2/npu0/die1"]
    assert "cut off" in supertwin("fabric", "cm384:64", "--fault", "node2/npu0").out


def test_traffic_that_is_cut_off_is_exit_3() -> None:
    fields = answer("cm384:32", "--pair", "0,17", "--plane", "ub", "--fault", "ub", code=3)
    assert fields["pair"]["reachable"] is False
    fields = answer(
        "cm384:32", "--collective", "all-to-all", "--bytes", "1 MiB", "--plane", "ub", "--fault", "ub", code=3
    )
    assert fields["rows"][0]["flow"]["time_s"] is None
    assert fields["reasons"]


def test_a_pair_takes_four_hops_across_nodes() -> None:
    pair = answer("cm384", "--pair", "0,17")["pair"]
    assert (pair["plane"], pair["paths"], len(pair["hops"])) == ("ub", 112, 4)
    assert pair["latency_s"] == pytest.approx(1.9e-6)  # CloudMatrix384 paper, table 1
    assert sum(hop["latency_s"] for hop in pair["hops"]) == pytest.approx(pair["latency_s"])


def test_matrix() -> None:
    fields = answer("cm384:64", "--matrix", "--fault", "node1/npu3")
    assert len(fields["bytes_per_s"]) == 32
    assert fields["unreachable_pairs"] == 2 * 31  # one package, there and back
    text = supertwin("fabric", "cm384:64", "--matrix", "--fault", "node1/npu3").out
    assert "XX cut off" in text


def test_files(tmp_path: Path) -> None:
    paths = {kind: tmp_path / f"out.{kind}" for kind in ("png", "svg", "graphml")}
    flags = [word for kind, path in paths.items() for word in (f"--{kind}", str(path))]
    assert supertwin("fabric", "cm384:32", *flags).code == 0
    assert all(path.stat().st_size > 1000 for path in paths.values())
    trace = tmp_path / "trace.json"
    assert supertwin("fabric", "cm384:32", "--collective", "all-reduce", "--trace", str(trace)).code == 0
    assert any(event["ph"] == "X" for event in json.loads(trace.read_text(encoding="utf-8"))["traceEvents"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("cm384", "--collective", "all-to-al"), "all_to_all"),
        (("cm384", "--fault", "ub-l2-9-1"), "did you mean ub-l2"),
        (("cm384", "--plane", "rdm"), "rdma"),
        (("cm38",), "cm384"),
        (("cm384", "--bytes", "5"), "needs --collective"),
        (("cm384", "--collective", "p2p", "--bytes", "1 XB"), "unknown unit"),
        (("cm384", "--collective", "all-reduce", "--devices", "1000"), "at most 768"),
        (("cm384", "--collective", "all-reduce", "--devices", "8", "--stride", "7"), "do not divide"),
        (("cm384", "--collective", "all-reduce", "--algorithm", "rng"), "ring"),
        (("cm384", "--collective", "all-reduce", "--library", "ncl"), "library"),
        (("cm384", "--collective", "dispatch", "--algorithm", "ring"), "--library"),
        (("cm384", "--pair", "1"), "--pair"),
        (("cm384", "--pair", "1,99999"), "0 to 767"),
        (("cm384", "--matrix", "--pair", "0,1"), "expected one of"),
        (("cm384", "--png", "x.txt"), ".png"),
        (("cm384", "--png", "/nowhere/x.png"), "cannot write"),
        (("cm384", "--fault", "node3=2"), "share from 0 to 1"),
        (("cm384:331776",), "link by link"),
    ],
)
def test_bad_input_is_one_sentence(arguments: tuple[str, ...], words: str) -> None:
    result = supertwin("fabric", *arguments)
    assert_refused(result)
    assert words in result.err


WORDS = st.sampled_from(["", "0", "-1", "1.5", "nan", "99999999999999999999", "all_reduce", "ring", "ub", "1 GiB", ","])


@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_flags(data: st.DataObject) -> None:
    files = ("--png", "--svg", "--graphml", "--trace")
    arguments = ["fabric", data.draw(st.sampled_from(["cm384:32", "dgx-h100:16", "mi300x-8", "tpu-v5p:8", "h20-8"]))]
    options = [option for option in COMMAND.options if option.flag not in files]
    for option in data.draw(st.lists(st.sampled_from(options), min_size=1, max_size=4)):
        arguments.append(option.flag)
        if option.kind != "switch":
            words = st.sampled_from(["2", "4", "8", "node0", "node1/npu0", "0,1", "all-to-all", "dispatch", "closed"])
            arguments.append(data.draw(st.one_of(WORDS, words, st.text(st.characters(codec="utf-8"), max_size=5))))
    result = supertwin(*arguments)
    assert result.code in (0, 2, 3), (arguments, result.err)
    assert "Traceback" not in result.err
    assert "internal" not in result.err, (arguments, result.err)
