"""Names and units of `train --json` and `infer --json`, as scripts outside of the repository read them."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from tests.cli.run import supertwin

STEPS = {
    "train": ("train", "llama3.1-8b", "--on", "cm384:16"),
    "prefill": ("infer", "llama-3.1-8b", "--on", "cm384:16", "--phase", "prefill"),
    "decode": ("infer", "llama-3.1-8b", "--on", "cm384:16", "--phase", "decode"),
}
NUMBERS = (
    "step_time_s", "tokens_per_s_per_device", "tokens_per_s_per_chip", "mfu", "energy_j_per_token", "power_w",
    "usd_per_million_tokens",
)  # fmt: skip
MEMORY = (
    "parameters_bytes", "gradients_bytes", "optimizer_bytes", "activations_bytes", "kv_cache_bytes", "workspace_bytes",
    "peak_bytes", "capacity_bytes",
)  # fmt: skip
OF_PHASE = {
    "train": (),
    "prefill": ("ttft_s",),
    "decode": ("tpot_s", "output_tokens_per_s_per_device", "output_tokens_per_s_per_user"),
}
BOUNDS = {"compute", "memory", "network", "latency", "bubble"}


@cache
def fields(step: str) -> dict[str, Any]:
    result = supertwin(*STEPS[step], "--json")
    assert result.code == 0, result.err
    return json.loads(result.out)  # type: ignore[no-any-return]


@pytest.mark.parametrize("step", STEPS)
def test_numbers(step: str) -> None:
    got = fields(step)
    assert got["schema"] == f"supertwin.{STEPS[step][0]}/1"
    for name in (*NUMBERS, *OF_PHASE[step]):
        assert isinstance(got[name], float), name
        assert got[name] > 0.0, name


@pytest.mark.parametrize("step", STEPS)
def test_groups(step: str) -> None:
    got = fields(step)
    assert {"layout", "defaults", "interval", "sources", "breakdown", "memory", "warnings"} <= got.keys()
    assert all(isinstance(got["memory"][name], float) for name in MEMORY)
    assert got["memory"]["fits"] is True
    for part in got["breakdown"]:
        assert part.keys() == {"part", "time_s", "share", "bound"}
        assert part["bound"] in BOUNDS
    assert got["interval"].keys() == {"low", "high"}
    assert all(row.keys() == {"name", "value", "source", "layer"} for row in got["sources"])


@pytest.mark.parametrize("step", STEPS)
def test_units(step: str) -> None:
    """Energy is that of the whole job per token of the job; a 910C package is two devices; seconds, bytes, watts."""
    got = fields(step)
    devices = got["layout"]["devices"]
    assert got["tokens_per_s_per_chip"] == pytest.approx(2.0 * got["tokens_per_s_per_device"])
    assert got["energy_j_per_token"] == pytest.approx(got["power_w"] / devices / got["tokens_per_s_per_device"])
    assert got["it_power_w"] == pytest.approx(got["power_w"] / 1.2)
    assert 200.0 < got["it_power_w"] / devices < 1000.0
    assert got["memory"]["capacity_bytes"] == pytest.approx(60e9, rel=0.15)
    assert sum(part["time_s"] for part in got["breakdown"]) == pytest.approx(got["step_time_s"], rel=1e-6)
    assert got["interval"]["low"] < got["step_time_s"] < got["interval"]["high"]


def test_no_figure_is_there_twice() -> None:
    for step in STEPS:
        assert "compute_use" not in fields(step)
