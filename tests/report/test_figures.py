"""Utilisation figures of a training step mean what docs/command-line.md says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.run import supertwin

JOB = ("train", "llama3.1-8b", "--on", "dgx-h100:8", "--global-batch", "8", "--tp", "8", "--pp", "1")


def fields(*arguments: str) -> dict[str, Any]:
    length = () if "--seq-len" in arguments else ("--seq-len", "32768")
    result = supertwin(*JOB, *length, *arguments, "--json")
    assert result.code in (0, 3), result.err
    return json.loads(result.out)  # type: ignore[no-any-return]


def test_hfu_counts_what_is_executed() -> None:
    """Causal attention and no recomputation: little above mfu (fused attention computes its scores again in backward),
    below the figure that counts the whole square; with full recomputation a third more per token."""
    plain, again = fields("--recompute", "none"), fields("--recompute", "full")
    assert plain["mfu"] <= plain["hfu"] < 1.1 * plain["mfu"]
    assert plain["hfu"] < plain["mfu_full_attention"]
    per_token = [got["hfu"] / got["tokens_per_s_per_device"] for got in (plain, again)]
    assert per_token[1] / per_token[0] == pytest.approx(4 / 3, rel=0.05)


def test_power_follows_the_work_and_not_the_time() -> None:
    """Short sequences cut over eight devices keep them busy with small kernels: less work per second, less power."""
    full, thin = fields("--recompute", "none"), fields("--recompute", "none", "--seq-len", "512")
    assert thin["hfu"] < 0.7 * full["hfu"]
    assert thin["power_w"] < 0.9 * full["power_w"]
