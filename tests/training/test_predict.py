"""Invariants of a predicted step, and published runs that nothing was fitted to."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.core.prediction import Prediction
from supertwin.machine.systems import load_system
from supertwin.model.load import load_model
from supertwin.training import Layout, TrainingCase, predict
from supertwin.training.fabric import axis_group


def job(model: str = "llama3.1-70b", system: str = "dgx-h100:64", **changes: object) -> TrainingCase:
    case = TrainingCase(
        model=load_model(model),
        system=load_system(system),
        layout=Layout(tp=4, pp=4, dp=4),
        micro_batch=1,
        global_batch=128,
        seq_len=4096,
        framework="nemo",
    )
    return replace(case, **changes)  # type: ignore[arg-type]


def seconds(prediction: Prediction, prefix: str) -> float:
    return sum(part.time_s for part in prediction.breakdown if part.part.startswith(prefix))


def test_shares_add_up_and_figures_agree() -> None:
    p = predict(job())
    assert sum(part.share for part in p.breakdown) == pytest.approx(1.0)
    assert sum(part.time_s for part in p.breakdown) == pytest.approx(p.step_time_s)
    assert p.tokens_per_s_per_device * p.step_time_s * 64 == pytest.approx(128 * 4096)
    assert p.figures["mfu_full_attention"] > p.figures["mfu"] > 0.0  # type: ignore[operator]
    assert p.interval[0] < 1.0 < p.interval[1]
    assert {row[3] for row in p.sources} >= {"spec", "assumption"}
    assert p.bill.power_w is not None
    assert p.bill.energy_j_per_token == pytest.approx(p.bill.power_w / (p.tokens_per_s_per_device * 64))


@pytest.mark.parametrize(
    ("model", "system", "changes", "measured_tokens_per_s_per_device"),
    [
        # Korthikanti et al. 2022, arXiv 2205.05198, table 5: selective recomputation and sequence parallelism
        (
            "gpt3-175b",
            "dgx-a100:64",
            {
                "layout": Layout(tp=8, pp=8, vpp=3), "global_batch": 64, "seq_len": 2048, "precision": "fp16",
                "recompute": "selective", "framework": "megatron-lm", "attention_kernel": "unfused",
            },
            148.945,
        ),
        # NVIDIA DGX Cloud benchmarking, Llama 3.1 405B BF16 on 2,304 H100
        (
            "llama3.1-405b",
            "dgx-h100:2304",
            {"layout": Layout(tp=8, pp=9, cp=2, dp=16, vpp=7), "global_batch": 1008, "seq_len": 8192},
            202.486,
        ),
    ],
)  # fmt: skip
def test_published_runs(
    model: str, system: str, changes: dict[str, object], measured_tokens_per_s_per_device: float
) -> None:
    p = predict(job(model, system, **changes))
    assert p.tokens_per_s_per_device == pytest.approx(measured_tokens_per_s_per_device, rel=0.2)


def test_full_recomputation_costs_about_a_third() -> None:
    """Forward again: 4/3 of the arithmetic (arXiv 2205.05198, section 1: 30-40 % of time)."""
    none = predict(job("gpt3-175b", "dgx-a100:64", layout=Layout(tp=8, pp=8), seq_len=2048))
    full = predict(job("gpt3-175b", "dgx-a100:64", layout=Layout(tp=8, pp=8), seq_len=2048, recompute="full"))
    assert 1.22 < full.step_time_s / none.step_time_s < 1.42
    assert full.figures["hfu"] > full.figures["mfu"]  # type: ignore[operator]


def test_more_microbatches_thin_the_bubble() -> None:
    shares = [predict(job(global_batch=size)).figures["bubble_share"] for size in (16, 64, 256)]
    assert shares[0] > shares[1] > shares[2]  # type: ignore[operator]


def test_schedules_order_the_bubble() -> None:
    base = {"layout": Layout(tp=4, pp=8, dp=2), "global_batch": 64}
    bubbles = [seconds(predict(job(schedule=s, **base)), "bubble") for s in ("1f1b", "zb-h1", "zb-v")]
    assert bubbles[0] > bubbles[1] > bubbles[2]
    interleaved = predict(job(layout=Layout(tp=4, pp=8, dp=2, vpp=5), global_batch=64))
    assert seconds(interleaved, "bubble") < bubbles[0]


def test_tensor_parallel_over_the_node_border_is_slower() -> None:
    inside = predict(job(layout=Layout(tp=8, dp=8)))
    across = predict(job(layout=Layout(tp=16, dp=4)))
    assert seconds(across, "communication/tp") > 2.0 * seconds(inside, "communication/tp")


def test_small_models_wait_for_the_host() -> None:
    """An eager 1,024-wide model on 8 GPU is bound by launches; a replayed graph is not."""
    small = {"layout": Layout(tp=8), "micro_batch": 1, "global_batch": 8, "seq_len": 1024, "framework": "megatron-core"}
    eager = predict(job("vtrain-gpt-l24-h1024-a16", "dgx-a100:8", **small))
    graph = predict(job("vtrain-gpt-l24-h1024-a16", "dgx-a100:8", launch="graph", **small))
    assert seconds(eager, "host") > 0.3 * eager.step_time_s
    assert graph.step_time_s < 0.7 * eager.step_time_s


def test_skewed_routing_is_slower() -> None:
    layout = Layout(pp=8, dp=8, ep=8)
    balanced = predict(job("deepseek-v3", layout=layout))
    skewed = predict(job("deepseek-v3", layout=layout, force_balanced=False))
    hot = predict(job("deepseek-v3", layout=layout, skew=2.0))
    assert balanced.step_time_s < skewed.step_time_s < hot.step_time_s


def test_lora_is_faster_than_training_all() -> None:
    full, lora = predict(job()), predict(job(task="lora"))
    assert 0.6 < lora.step_time_s / full.step_time_s < 0.85


def test_infeasible_memory_is_a_result() -> None:
    p = predict(job(system="dgx-h100:8", layout=Layout(dp=8), sharding="none"))
    assert not p.memory.fits
    missing = p.memory.missing_bytes
    assert any("does not fit" in w and f"{missing / 2**30:,.1f} GiB missing" in w for w in p.warnings)


def test_groups_follow_the_rank_order() -> None:
    """Megatron's order tp-cp-ep-dp-pp: tp neighbours are adjacent, replicas tp apart, stages furthest apart."""
    case = job("deepseek-v3", "dgx-h100:128", layout=Layout(tp=2, cp=2, dp=8, pp=4, ep=8))
    got = {
        axis: (axis_group(case, axis).size, axis_group(case, axis).stride) for axis in ("tp", "cp", "dp", "ep", "edp")
    }
    assert got == {"tp": (2, 1), "cp": (2, 2), "dp": (16, 2), "ep": (8, 1), "edp": (4, 8)}
    assert axis_group(case, "pp").stride == 32


@settings(max_examples=25, deadline=None)
@given(
    tp=st.sampled_from([1, 2, 4, 8]),
    pp=st.sampled_from([1, 2, 4]),
    micro_batch=st.sampled_from([1, 2, 4]),
    sharding=st.sampled_from(["none", "zero1", "zero2", "zero3"]),
    recompute=st.sampled_from(["none", "selective", "full"]),
)
def test_any_layout_is_sane(tp: int, pp: int, micro_batch: int, sharding: str, recompute: str) -> None:
    dp = 64 // tp // pp
    p = predict(
        job(
            layout=Layout(tp=tp, pp=pp, dp=dp), micro_batch=micro_batch, global_batch=256, sharding=sharding,
            recompute=recompute,
        )
    )  # fmt: skip
    assert 0.0 < p.figures["mfu"] < 0.85  # type: ignore[operator]
    assert all(part.time_s > 0.0 for part in p.breakdown)
    assert sum(part.share for part in p.breakdown) == pytest.approx(1.0)
    assert p.memory.peak_bytes > 0.0


def test_a_warm_prediction_takes_milliseconds() -> None:
    case = job("deepseek-v3", layout=Layout(tp=2, pp=8, dp=4, ep=8))
    predict(case)
    best = min(_timed(case) for _ in range(10))
    assert best < 5e-3


def _timed(case: TrainingCase) -> float:
    start = time.process_time()
    predict(case)
    return time.process_time() - start
