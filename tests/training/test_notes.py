"""Options without effect are named, and none where they have one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supertwin.machine.systems import load_system
from supertwin.model.load import load_model
from supertwin.training import Layout, TrainingCase, predict
from supertwin.training.notes import notes


def job(model: str = "llama3.1-8b", **changes: object) -> TrainingCase:
    layout = Layout(tp=2, pp=2, dp=4)
    case = TrainingCase(load_model(model), load_system("dgx-h100:16"), layout, 1, 32, 4096, recompute="full")
    return replace(case, **changes)  # type: ignore[arg-type]


IDLE: tuple[dict[str, object], ...] = (
    {"hsdp_shard_size": 2},
    {"prefetch": 3},
    {"reshard": False},
    {"flat_parameters": True},
    {"cp_method": "ulysses"},
    {"cp_balanced": False},
    {"sample_len": 100.0},
    {"sample_cv": 1.0},
    {"skew": 2.0},
    {"routing_cv": 0.5},
    {"capacity_factor": 1.5},
    {"force_balanced": False},
    {"overlap_ep": True},
    {"dispatch_dtype": "fp8"},
    {"offload_update": "swapped"},
    {"lora_rank": 64},
    {"lora_modules": "attention"},
)


@pytest.mark.parametrize("option", IDLE, ids=lambda option: next(iter(option)))
def test_an_option_without_effect_is_named_and_changes_nothing(option: dict[str, object]) -> None:
    plain, given = predict(job()), predict(job(**option))
    assert given.step_time_s == plain.step_time_s
    assert given.memory == plain.memory
    told = [note for note in notes(job(**option)) if "no effect" in note]
    assert len(told) == 1
    assert next(iter(option)) in told[0]


ACTIVE: tuple[dict[str, object], ...] = (
    {"sharding": "hsdp", "hsdp_shard_size": 2},
    {"sharding": "zero3", "prefetch": 3, "reshard": False},
    {"layout": Layout(tp=2, pp=2, cp=2, dp=2), "cp_method": "ulysses"},
    {"packed": True, "sample_len": 100.0},
    {"task": "lora", "lora_rank": 64},
    {"offload_optimizer": 0.5, "offload_update": "sequential"},
    {"recompute": "selective", "recompute_modules": ("norm",)},
)


@pytest.mark.parametrize("options", ACTIVE, ids=lambda options: next(reversed(options)))
def test_an_option_with_effect_is_not_named(options: dict[str, object]) -> None:
    assert not [note for note in notes(job(**options)) if "no effect" in note]
    last = next(reversed(options))
    without = {name: value for name, value in options.items() if name != last}
    plain, given = predict(job(**without)), predict(job(**options))
    assert (plain.step_time_s, plain.memory) != (given.step_time_s, given.memory)


def test_a_router_is_named_for_dense_models_alone() -> None:
    layout = Layout(ep=8, dp=16)
    assert not [note for note in notes(job("mixtral-8x7b", layout=layout, skew=2.0)) if "no effect" in note]
