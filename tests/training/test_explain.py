"""Waterfall, what-if table and power by phase: they add up, agree with the prediction, and stay quick."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import replace

import pytest

from supertwin.machine import load_system
from supertwin.model import load_model
from supertwin.training import predict
from supertwin.training.case import Layout, TrainingCase
from supertwin.training.phases import mean_power_w, phase_powers
from supertwin.training.setting import setting_of
from supertwin.training.step import step_time
from supertwin.training.waterfall import EXPERTS, IDEAL, RECOMPUTE, waterfall
from supertwin.training.what_if import scaled_setting, what_if
from tests.cli.run import supertwin


def job(model: str, system: str, layout: Layout, **options: object) -> TrainingCase:
    """A job of 8 microbatches per pipeline unless stated."""
    batch = options.pop("global_batch", 8 * layout.dp)
    return TrainingCase(
        model=load_model(model), system=load_system(system), layout=layout, micro_batch=1, global_batch=batch,
        seq_len=4096, **options,  # type: ignore[arg-type]
    )  # fmt: skip


JOBS = {
    "dense": job("llama3.1-70b", "dgx-h100:64", Layout(tp=4, pp=4, dp=4)),
    "full": job("llama3.1-70b", "dgx-h100:64", Layout(tp=4, pp=4, dp=4), recompute="full"),
    "experts": job(
        "deepseek-v3", "cm384:512", Layout(tp=1, pp=8, dp=64, ep=32, vpp=2),
        recompute="full", force_balanced=False, global_batch=2048,
    ),
    "fsdp": job("llama3.1-8b", "dgx-a100:16", Layout(dp=16), sharding="zero3"),
    "lora": job("llama3.1-8b", "dgx-b200:8", Layout(dp=8), task="lora"),
    "gpipe": job("gemma2-9b", "cm384:64", Layout(tp=2, pp=2, cp=2, dp=8), schedule="gpipe", recompute="selective"),
    "heavy head": job("deepseek-v3", "dgx-b200:16", Layout(tp=8, pp=2, ep=4), schedule="gpipe", recompute="partial",
                      recompute_layers=8),
}  # fmt: skip


@pytest.mark.parametrize("name", JOBS)
def test_rungs_add_up_to_the_step_and_begin_with_the_model_flops(name: str) -> None:
    case = JOBS[name]
    found, p = waterfall(case), predict(case)
    assert sum(rung.time_s for rung in found) == pytest.approx(p.step_time_s, rel=1e-9)
    assert sum(rung.share for rung in found) == pytest.approx(1.0, rel=1e-9)
    assert found[0].part == IDEAL
    assert found[0].share == pytest.approx(p.figures["mfu"], rel=1e-9)
    for before, rung in itertools.pairwise(found):  # rungs that take no time are left out
        assert rung.start_s == pytest.approx(before.start_s + before.time_s, abs=1e-6 * p.step_time_s)
    assert all(0.0 < rung.reached <= 1.0 for rung in found if rung.reached is not None)


@pytest.mark.parametrize("name", ["full", "experts", "gpipe", "heavy head"])
def test_causes_of_one_device_are_told_apart(name: str) -> None:
    """Differences to a step without recomputation or uneven experts are taken on the same pipeline device."""
    for rung in waterfall(JOBS[name]):
        if rung.part.startswith("kernels/") or rung.part in (RECOMPUTE, EXPERTS):
            assert rung.time_s > 0.0, rung.part


def test_recomputation_and_uneven_experts_are_what_they_add() -> None:
    by_part = {rung.part: rung.time_s for rung in waterfall(JOBS["full"])}
    assert RECOMPUTE not in {rung.part for rung in waterfall(JOBS["dense"])}
    more = predict(JOBS["full"]).step_time_s - predict(JOBS["dense"]).step_time_s
    assert 0.0 < by_part[RECOMPUTE] <= more  # the bubble grows too
    uneven = {rung.part: rung.time_s for rung in waterfall(JOBS["experts"])}
    even = {rung.part for rung in waterfall(replace(JOBS["experts"], force_balanced=True))}
    assert uneven[EXPERTS] > 0.0
    assert EXPERTS not in even


@pytest.mark.parametrize("name", JOBS)
def test_gains_are_those_of_the_changed_job(name: str) -> None:
    case = JOBS[name]
    gains, now = what_if(case), predict(case).tokens_per_s_per_device
    assert [gain.gain for gain in gains] == sorted((gain.gain for gain in gains), reverse=True)
    for gain in gains:
        if gain.change.kind == "machine":
            assert gain.gain >= -1e-9, gain.change.name
        else:
            p = predict(gain.change.case)
            assert p.memory.fits
            assert gain.gain == pytest.approx(p.tokens_per_s_per_device / now - 1.0, rel=1e-6, abs=1e-9)


def test_a_fabric_that_costs_nothing_leaves_no_communication() -> None:
    case = JOBS["experts"]
    parts = step_time(scaled_setting(case, (0.0, 0.0))).parts
    assert sum(seconds for part, seconds in parts.items() if part.startswith("communication/")) == 0.0


def test_the_table_is_quick() -> None:
    case = JOBS["experts"]
    predict(case)
    spent = []
    for _ in range(2):
        start = time.process_time()
        what_if(case)
        waterfall(case)
        spent.append(time.process_time() - start)
    assert min(spent) < 0.3


@pytest.mark.parametrize("name", JOBS)
def test_power_of_the_phases_makes_the_bill(name: str) -> None:
    case = JOBS[name]
    setting = setting_of(case)
    phases = phase_powers(setting, step_time(setting))
    assert sum(phase.share for phase in phases) == pytest.approx(1.0)
    assert mean_power_w(phases) == pytest.approx(predict(case).bill.power_w)
    by_name = {phase.phase: phase.power_w for phase in phases}
    assert by_name["compute"] == max(by_name.values())
    assert by_name.get("waiting", 0.0) < by_name["compute"]


def test_the_command_prints_all_three() -> None:
    words = ("train", "llama3.1-70b", "--on", "dgx-h100:64", "--tp", "4", "--pp", "4", "--explain")
    fields = json.loads(supertwin(*words, "--json").out)
    assert fields["waterfall"][0]["part"] == IDEAL
    assert {row["kind"] for row in fields["what_if"]} == {"option", "machine"}
    assert {row["phase"] for row in fields["power_phases"]} >= {"compute", "communication"}
    text = supertwin(*words).out
    assert "What the next change would buy" in text
    assert "2x link bandwidth" in text


def test_stages_that_are_left_out_are_counted() -> None:
    text = supertwin(
        "train", "llama3.1-70b", "--on", "dgx-h100:160", "--pp", "10", "--tp", "8", "--recompute", "full", "--explain"
    ).out
    table = text[text.index("Memory by pipeline stage") :].splitlines()[2:11]
    assert [row.split()[0] for row in table] == ["0", "1", "2", "3", "2", "6", "7", "8", "9"]
    assert table[4].split() == ["2", "more"]
