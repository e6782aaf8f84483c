"""`train` and `infer`: fields of the interface, defaults that are stated, cases that do not fit."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.run import assert_refused, starts_of_numpy, supertwin

TRAIN = ("train", "llama3.1-8b", "--on", "dgx-h100:8")
INFER = ("infer", "llama-3.1-8b", "--on", "dgx-h100:8")
FIELDS = {
    "schema", "step_time_s", "tokens_per_s_per_device", "tokens_per_s_per_chip", "mfu", "memory", "breakdown",
    "energy_j_per_token", "power_w", "usd_per_million_tokens", "layout", "interval", "sources", "defaults",
}  # fmt: skip
MEMORY = {
    "parameters_bytes", "gradients_bytes", "optimizer_bytes", "activations_bytes", "kv_cache_bytes", "workspace_bytes",
    "peak_bytes", "capacity_bytes", "fits",
}  # fmt: skip


def fields(*arguments: str, code: int = 0) -> dict[str, Any]:
    result = supertwin(*arguments, "--json")
    assert result.code == code, result.err
    return json.loads(result.out)  # type: ignore[no-any-return]


@pytest.mark.parametrize("arguments", [TRAIN, (*INFER, "--phase", "prefill"), (*INFER, "--phase", "decode")])
def test_json_fields_of_the_interface(arguments: tuple[str, ...]) -> None:
    got = fields(*arguments)
    assert got.keys() >= FIELDS
    assert got["schema"] == f"supertwin.{arguments[0]}/1"
    assert got["memory"].keys() >= MEMORY
    uses = [got["memory"][name] for name in MEMORY - {"peak_bytes", "capacity_bytes", "fits"}]
    assert sum(uses) == pytest.approx(got["memory"]["peak_bytes"])
    assert sum(part["share"] for part in got["breakdown"]) == pytest.approx(1.0, abs=1e-6)
    assert sum(part["time_s"] for part in got["breakdown"]) == pytest.approx(got["step_time_s"], rel=1e-6)
    assert {part["bound"] for part in got["breakdown"]} <= {"compute", "memory", "network", "latency", "bubble"}
    assert got["interval"]["low"] <= got["step_time_s"] <= got["interval"]["high"]
    assert all({"name", "value", "source", "layer"} <= source.keys() for source in got["sources"])


def test_infer_gives_the_latency_of_its_phase() -> None:
    prefill, decode = fields(*INFER, "--phase", "prefill"), fields(*INFER, "--phase", "decode")
    assert prefill["ttft_s"] > 0.0
    assert decode["tpot_s"] > 0.0
    assert decode["output_tokens_per_s_per_device"] > 0.0
    assert decode["output_tokens_per_s_per_user"] == pytest.approx(1.0 / decode["tpot_s"], rel=1e-6)


def test_defaults_name_what_was_not_given_and_only_that() -> None:
    free = fields(*TRAIN)["defaults"]
    assert {
        "tp",
        "pp",
        "dp",
        "micro_batch",
        "global_batch",
        "seq_len",
        "precision",
        "recompute",
        "sharding",
    } <= free.keys()
    layout = ("--tp", "2", "--pp", "1", "--recompute", "full", "--global-batch", "64")
    given = fields(*TRAIN, *layout)
    assert not {"tp", "pp", "recompute", "global_batch"} & given["defaults"].keys()
    assert given["layout"]["tp"] == 2
    assert given["defaults"]["dp"] == 4


def test_the_layout_found_uses_all_devices_and_fits() -> None:
    got = fields("train", "llama3.1-70b", "--on", "dgx-h100:64")
    layout = got["layout"]
    assert layout["tp"] * layout["pp"] * layout["cp"] * layout["dp"] == 64
    assert got["memory"]["fits"]


def test_a_case_that_does_not_fit_is_a_result_with_exit_3() -> None:
    result = supertwin("infer", "llama3.1-405b", "--on", "dgx-h100:1", "--json")
    assert result.code == 3
    assert json.loads(result.out)["feasible"] is False
    assert result.err.startswith("supertwin: ")
    assert result.err.count("\n") == 1


def test_what_does_not_fit_names_missing_bytes_and_what_fits() -> None:
    result = supertwin("infer", "llama-3.1-405b", "--on", "dgx-h100:8", "--tp", "8", "--batch", "4", "--json")
    assert result.code == 3
    assert "missing; nearest that fits: --" in result.err
    got = json.loads(result.out)
    assert got["nearest"]
    assert all(one["headroom_bytes"] >= 0.0 for one in got["nearest"])


def test_the_largest_batch_is_found() -> None:
    asked = ("infer", "llama-3.1-70b", "--on", "dgx-h100:8", "--tp", "8", "--batch")
    most = fields(*asked, "max")
    assert most["memory"]["fits"]
    assert most["memory"]["kv_cache_bytes"] > 0.5 * most["memory"]["capacity_bytes"]
    assert_refused(supertwin(*asked, "many"))


@pytest.mark.parametrize("split", ["2A2F", "1A3F"])
def test_attention_and_feed_forward_apart(split: str) -> None:
    got = fields("infer", "deepseek-r1", "--on", "dgx-h200:32", "--afd", split, "--batch", "16", "--kv-dtype", "fp8")
    assert got["memory"]["side"] in ("attention", "feed-forward")
    assert (got["memory"]["side"] == "attention") == (got["memory"]["kv_cache_bytes"] > 0)
    assert got["layout"]["afd"] == split
    assert 0.0 < got["attention_busy_share"] <= 1.0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("train", "llama3.1-8b", "--on", "dgx-h100:8", "--tp", "3", "--pp", "1"), "3"),
        (("train", "llama3.1-8b", "--on", "dgx-h100:8", "--tp", "4", "--pp", "4"), "8 devices"),
        (("train", "llama3.1-8b", "--on", "dgx-h100:8", "--ep", "4"), "ep(4) needs experts"),
        (("infer", "llama-3.1-8b", "--on", "dgx-h100:4", "--tp", "8"), "8"),
    ],
)
def test_illegal_layouts_show_the_arithmetic(arguments: tuple[str, ...], sentence: str) -> None:
    result = supertwin(*arguments)
    assert_refused(result)
    assert sentence in result.err


@pytest.mark.parametrize("arguments", [TRAIN, INFER])
def test_explain_lists_bounds_and_sources(arguments: tuple[str, ...]) -> None:
    plain, explained = supertwin(*arguments), supertwin(*arguments, "--explain")
    for heading in ("Where the time goes", "Memory per device", "defaults used"):
        assert heading in plain.out
    for heading in ("What bounds it", "Numbers it stands on"):
        assert heading in explained.out
        assert heading not in plain.out
    for text in (plain.out, explained.out):
        lines = text.splitlines()
        assert max(len(line) for line in lines) <= 100
        assert sum(len(line.split()) <= 1 for line in lines) < 0.3 * len(lines), "a column is squeezed"


@pytest.mark.parametrize("arguments", [TRAIN, (*INFER, "--tp", "8")])
def test_one_case_takes_under_a_second_with_start_up(arguments: tuple[str, ...]) -> None:
    """A second where numpy starts in 0.1 s of processor time, as on the machine of README's table."""
    assert starts_of_numpy(10.0, *arguments, "--json") < 10.0
