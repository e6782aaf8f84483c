"""Settings of Megatron-Bridge recipes by container release (NVIDIA-NeMo/Megatron-Bridge, scripts/performance)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supertwin.training import predict
from supertwin.training.case import TrainingCase
from supertwin.training.fabric import Fabric
from supertwin.validation.predictors.common import system_of
from supertwin.validation.predictors.recipes import recipe_settings
from supertwin.validation.predictors.training import case_of
from supertwin.validation.tables import Row, load

ROWS = {row.id: row for row in load("training").rows}


def row_of(model: str, chip: str, release: str, precision: str = "mxfp8", ep: int = 8) -> Row:
    given = {"model": model, "chip": chip, "precision": precision, "framework": f"megatron-bridge {release}", "ep": ep}
    return Row("training", 1, given)


def settings(model: str, chip: str, release: str, precision: str = "mxfp8", ep: int = 8) -> dict[str, object]:
    return recipe_settings(row_of(model, chip, release, precision, ep), system_of(chip, 8))


def test_releases_differ_as_the_scripts_do() -> None:
    """qwen3_workload_base_configs.py: graphs of router and attention in v0.4.0, of the whole step in v0.5.0."""
    before, after = settings("qwen3-30b-a3b", "gb200", "26.04"), settings("qwen3-30b-a3b", "gb200", "26.06.01")
    assert before == {"launch": "eager", "dispatcher": "hybridep"}
    assert after["launch"] == "graph"
    assert after["overlap_ep"]
    assert after["fused_experts"]
    assert after["attention_dtype"] == "fp8"
    assert settings("qwen3-30b-a3b", "b200-sxm", "26.02")["dispatcher"] == "all_to_all"
    assert settings("qwen3-30b-a3b", "b200-sxm", "26.02.01")["dispatcher"] == "hybridep"
    assert settings("qwen3-30b-a3b", "gb200", "26.06", "bf16")["launch"] == "eager"


def test_modules_computed_again_follow_the_scripts() -> None:
    """nemotron_3_workload_base_configs.py and deepseek_workload_base_configs.py."""
    assert settings("nemotron3-nano-30b-a3b", "h100-sxm", "26.04", "fp8-tensorwise")["recompute_modules"] == (
        "experts",
        "norm",
        "activation",
    )
    assert settings("deepseek-v3", "gb200", "26.04", ep=64)["recompute_modules"] == ("mlp",)
    assert settings("deepseek-v3", "gb200", "26.06", ep=64)["recompute_modules"] == ("mla_up",)
    assert settings("deepseek-v3", "gb300", "26.08", ep=32)["recompute_modules"] == ()


def test_dense_models_and_other_frameworks_keep_their_habits() -> None:
    assert settings("llama3.1-70b", "gb200", "26.06", ep=1) == {}
    assert settings("llama3.1-70b", "gb200", "26.06", "nvfp4", ep=1) == {"overlap_tp": False}
    other = Row("training", 1, {"model": "qwen3-30b-a3b", "framework": "megatron-core", "ep": 8})
    assert recipe_settings(other, system_of("gb200", 8)) == {}


@pytest.fixture(scope="module")
def eager() -> TrainingCase:
    return case_of(ROWS["mb-26-04-pre-qwen3-30b-a3b-dgx-gb200-8-mxfp8"])[0]


def test_whole_graph_recipe_is_faster(eager: TrainingCase) -> None:
    """The container notes of 26.06: full-iteration graphs and fused grouped MLP instead of partial graphs."""
    whole = replace(eager, launch="graph", overlap_ep=True, fused_experts=True, attention_dtype="fp8")
    assert predict(whole).step_time_s < 0.8 * predict(eager).step_time_s


def test_host_waits_only_for_dropless_eager_experts(eager: TrainingCase) -> None:
    """1.2 ms per layer of 64 experts on Grace, 16 here: 0.75 ms x 48 layers x 16 microbatches = 0.576 s."""
    waits, padded, graph = (
        {p.part: p.time_s for p in predict(case).breakdown}.get("host", 0.0)
        for case in (eager, replace(eager, pad_experts=True, capacity_factor=1.0), replace(eager, launch="graph"))
    )
    assert waits - padded == pytest.approx(0.576, rel=1e-6)
    assert graph <= padded


def test_eager_exchange_hides_in_backward_only(eager: TrainingCase) -> None:
    exposed = [
        sum(
            p.time_s
            for p in predict(replace(eager, **{"overlap_ep": True, **more})).breakdown
            if p.part == "communication/ep"
        )
        for more in ({"overlap_ep": False}, {}, {"launch": "graph"})
    ]
    plain, host, graph = exposed
    assert host == pytest.approx((plain + graph) / 2.0, rel=0.05)
    assert graph < 0.25 * plain


def test_layouts_of_the_megatron_core_report() -> None:
    case, assumed = case_of(ROWS["mcore-moe-dsv3-h100"])
    layout = case.layout
    assert (layout.tp, layout.pp, layout.ep, layout.vpp, case.global_batch) == (2, 8, 64, 4, 8192)
    assert (case.precision, case.dispatcher) == ("fp8-blockwise", "deepep")
    assert "tp=2" in assumed
    qwen = case_of(ROWS["mcore-moe-qwen3-gb300"])[0]
    assert (qwen.layout.pp, qwen.layout.ep, qwen.micro_batch, qwen.global_batch) == (4, 32, 2, 8192)


def test_hybrid_ep_sends_a_token_once_per_rank(eager: TrainingCase) -> None:
    from supertwin.workload.operators import Communication

    exchange = Communication(
        part="moe/dispatch", op="all_to_all", axis="ep", message_bytes=2.0**30, tokens=16384.0, hidden=2048.0, topk=8.0
    )
    once, copies = (
        Fabric(replace(eager, dispatcher=name)).operator_time_s(exchange) for name in ("hybridep", "all_to_all")
    )
    reached = 8.0 * (1.0 - (7.0 / 8.0) ** 8)
    assert once / copies == pytest.approx(reached / 8.0, rel=0.02)


def test_a_module_that_runs_twice_is_computed_twice() -> None:
    """Nemotron 3 Super: one shared MTP block, run twice per step."""
    case = case_of(ROWS["mb-26-04-pre-nemotron-3-super-dgx-gb300-64-mxfp8"])[0]
    assert case.model.mtp_repeats == 2
    assert case.model.mtp_passes == 2 * case.model.mtp_count
    single = replace(case, model=replace(case.model, mtp_repeats=1))
    assert predict(case).step_time_s > 1.02 * predict(single).step_time_s
