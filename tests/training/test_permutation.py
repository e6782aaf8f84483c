"""Permutation around an all-to-all, and gradients that are divided in place."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supertwin.machine.systems import load_system
from supertwin.model.load import load_model
from supertwin.training import Layout, TrainingCase
from supertwin.training.framework import DEFAULT
from supertwin.training.setting import setting_of, sorted_passes
from supertwin.training.weights import optimizer_traffic_bytes


def job(model: str = "qwen3-30b-a3b", **changes: object) -> TrainingCase:
    case = TrainingCase(
        model=load_model(model),
        system=load_system("dgx-b200"),
        layout=Layout(ep=8, dp=8),
        micro_batch=1,
        global_batch=64,
        seq_len=4096,
        precision="bf16",
        framework="megatron-core",
    )
    return replace(case, **changes)  # type: ignore[arg-type]


def test_chunks_are_sorted_by_local_expert_on_both_sides() -> None:
    # top-8: gather (1 + 1/8) and sort 2 where one read and one write are counted
    assert sorted_passes(job()) == pytest.approx((1.0 + 1.0 / 8.0 + 2.0) / 2.0)
    assert sorted_passes(job(layout=Layout(dp=8))) == 1.0
    assert sorted_passes(job("llama2-7b", layout=Layout(dp=8))) == 1.0


def test_only_the_all_to_all_sorts_chunks() -> None:
    passes = {d: setting_of(job(dispatcher=d)).overlap.permute_passes for d in ("", "all_to_all", "deepep", "hybridep")}
    assert passes[""] == passes["all_to_all"] > 1.5
    assert passes["deepep"] == passes["hybridep"] == 1.0


def test_division_by_the_replicas_reads_and_writes_every_local_gradient() -> None:
    setting = setting_of(job("llama2-7b", layout=Layout(dp=8)))
    traffic = [
        float(optimizer_traffic_bytes(setting.case, replace(DEFAULT, gradients_scaled=flag), setting.weights)[0])
        for flag in (False, True)
    ]
    gradients = float(setting.weights.trained_dense[0])
    assert traffic[1] - traffic[0] == pytest.approx(8.0 * gradients)
