"""`infer --phase serve`: one deployment, its limits, its errors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.run import assert_refused, supertwin

SMALL = ("infer", "llama-3.1-8b", "--on", "dgx-h100:8", "--phase", "serve")


def fields(*arguments: str, code: int = 0) -> dict[str, Any]:
    result = supertwin(*SMALL, *arguments, "--json")
    assert result.code == code, result.err
    return json.loads(result.out)  # type: ignore[no-any-return]


def test_fields_of_every_inference_result() -> None:
    got = fields("--rate", "5")
    for name in (
        "step_time_s", "tokens_per_s_per_device", "tokens_per_s_per_chip", "mfu", "memory", "breakdown", "power_w",
        "energy_j_per_token", "usd_per_million_tokens", "layout", "interval", "sources", "defaults", "ttft_s", "tpot_s",
        "output_tokens_per_s_per_device", "output_tokens_per_s_per_user", "pareto", "planes", "loading", "slo",
    ):  # fmt: skip
        assert name in got, name
    assert got["kind"] == "serve"
    assert got["output_tokens_per_s"] == pytest.approx(5 * 1024)
    assert sum(part["share"] for part in got["breakdown"]) == pytest.approx(1.0)
    assert got["layout"]["prefill"]["instances"] + got["layout"]["decode"]["instances"] <= 8
    assert got["planes"]["ub"]["transfer_s"] < got["planes"]["rdma"]["transfer_s"]
    assert got["defaults"]["output_len"] == 1024


def test_loads_and_limits() -> None:
    most = fields()
    limited = fields("--slo-ttft-ms", "200", "--slo-tpot-ms", "15", "--slo-stat", "p99")
    assert limited["requests_per_s"] < most["requests_per_s"]
    assert limited["ttft_p99_s"] <= 0.2
    assert limited["tpot_p99_s"] <= 0.015
    assert limited["slo"]["attainment"] >= 0.98
    assert fields("--concurrency", "64")["requests_in_flight"] == pytest.approx(64)
    both = fields("--prefill-devices", "0", "--concurrency", "64")
    assert "both" in both["layout"]
    assert both["plane"] is None


def test_a_hit_rate_from_the_working_set() -> None:
    whole = fields("--hit-rate", "0.5", "--cache", "host")
    part = fields("--hit-rate", "0.5", "--cache", "host", "--prefixes", "1000000", "--zipf", "0.8")
    assert 0.0 < part["context_cache"]["hit_rate"] < whole["context_cache"]["hit_rate"] == 0.5
    assert part["ttft_parts"] != whole["ttft_parts"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--slo-ttft-ms", "5"), "nearest feasible"),
        (("--slo-tpot-ms", "1"), "nearest feasible"),
        (("--rate", "100000"), "nearest feasible"),
        (("--concurrency", "2000", "--slo-tpot-ms", "8"), "nearest feasible"),
    ],
)
def test_out_of_reach_is_a_result_with_the_nearest(arguments: tuple[str, ...], words: str) -> None:
    got = fields(*arguments, code=3)
    assert not got["feasible"]
    assert words in got["reasons"][0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--rate", "1", "--concurrency", "1"), "exclude each other"),
        (("--prefill-instance", "4", "--prefill-devices", "6"), "such as 4 or 8"),
        (("--cache", "ub"), "rdma"),
        (("--cache", "tape"), "expected one of"),
        (("--plane", "vpc"), "ub"),
        (("--prefixes", "100"), "--hit-rate"),
        (("--prefill-devices", "8"), "--decode-devices 0"),
    ],
)
def test_bad_input(arguments: tuple[str, ...], words: str) -> None:
    result = supertwin(*SMALL, *arguments)
    assert_refused(result)
    assert words in result.err


def test_too_large_a_model_and_a_single_device() -> None:
    result = supertwin("infer", "llama-3.1-405b", "--on", "dgx-h100:2", "--phase", "serve", "--json")
    assert result.code == 3
    assert "fits beside the weights" in json.loads(result.out)["reasons"][0]
    assert supertwin("infer", "llama-3.1-8b", "--on", "dgx-h100:1", "--phase", "serve").code == 0


def test_more_devices_than_one_supernode() -> None:
    result = supertwin(
        "infer", "deepseek-r1", "--on", "cm384:1024", "--phase", "serve", "--weight-dtype", "int8", "--json"
    )
    assert result.code == 0, result.err
    got = json.loads(result.out)
    assert list(got["planes"]) == ["rdma"]
    assert got["loading"]["pool_s"] > 0


def test_text_and_options_without_effect() -> None:
    result = supertwin(*SMALL, "--batch", "4", "--zipf", "1", "--explain")
    assert result.code == 0, result.err
    for words in ("time to first token", "Keys and values", "warm start", "Numbers it stands on"):
        assert words in result.out
    assert "--batch has no effect with serve" in result.out
    assert "--zipf has no effect without --prefixes" in result.out
    assert "prefixes" not in supertwin("infer", "llama-3.1-8b", "--on", "dgx-h100:8").out


def test_serve_flags_say_that_they_do_nothing_in_a_step() -> None:
    result = supertwin("infer", "llama-3.1-8b", "--on", "dgx-h100:8", "--slo-tpot-ms", "10", "--rate", "4")
    assert "--slo-tpot-ms has no effect with decode" in result.out
    assert "--rate has no effect with decode" in result.out


def test_drafts_parts_and_shared_prefixes_in_a_deployment() -> None:
    """A tree is drafted on the decode side alone; options of prefill steps say that they change nothing."""
    tree = ("--mtp-tokens", "3", "--draft", "eagle3", "--draft-topk", "2", "--verify-tokens", "8")
    plain, drafting = fields("--rate", "2"), fields("--rate", "2", *tree, "--mtp-acceptance", "0.8")
    assert drafting["tpot_s"] < plain["tpot_s"]
    shared = fields("--shared-prefix", "2048", "--input-len", "4096")
    assert shared["requests_per_s"] >= fields("--input-len", "4096")["requests_per_s"]
    assert any("--prompt-cv" in w for w in fields("--prompt-cv", "1")["warnings"])


def test_few_cores_of_the_host_slow_a_deployment_down_and_say_so() -> None:
    arguments = ("--framework", "vllm 0.16", "--prefill-devices", "0", "--decode-instance", "8", "--concurrency", "16")
    usual, few = fields(*arguments), fields(*arguments, "--host-cores", "1")
    assert few["requests_per_s"] < usual["requests_per_s"]
    assert few["ttft_s"] > usual["ttft_s"]
    assert any("share 1 of a node's cores" in warning for warning in few["warnings"])
    assert fields(*arguments, "--host-cores", "64")["requests_per_s"] == usual["requests_per_s"]
    refused = supertwin(*SMALL, "--host-cores", "0")
    assert_refused(refused)
    assert "--host-cores: expected a number of at least 0.1" in refused.err


def test_sizes_of_an_instance_need_no_power_of_two() -> None:
    result = supertwin("infer", "llama-3.1-8b", "--on", "dgx-h100:12", "--phase", "serve", "--pp", "3", "--json")
    assert json.loads(result.out)["layout"]["decode"]["devices_per_instance"] == 3
    refused = supertwin("infer", "llama-3.1-8b", "--on", "dgx-h100:8", "--phase", "serve", "--pp", "5")
    assert_refused(refused)
    assert "one decode instance of 5 devices" in refused.err


def test_what_serves_nothing_has_no_energy_per_token() -> None:
    result = supertwin("infer", "deepseek-r1", "--on", "dgx-h100:8", "--phase", "serve", "--json")
    assert result.code == 3
    found = json.loads(result.out)
    assert found["energy_j_per_token"] is None
    assert found["usd_per_million_tokens"] is None
