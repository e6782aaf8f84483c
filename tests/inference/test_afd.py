"""Attention-FFN split: published equations, limits of the ping-pong, and what each side holds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supertwin.core.errors import InputError
from supertwin.inference import Deployment, InferenceCase, predict
from supertwin.inference.afd_memory import afd_memory
from supertwin.inference.afd_step import Stage, pipeline_s
from supertwin.machine import load_system
from supertwin.model import load_model
from supertwin.model.parameters import parameter_count
from supertwin.model.spec import AttentionSpec, FeedForwardSpec, LayerSpec, ModelSpec

FP8 = {"weight_dtype": "fp8", "activation_dtype": "fp8", "kv_dtype": "fp8"}
SPLIT = Deployment(
    dp=16, ep=16, dp_attention=True, afd=(2, 2), expert_balance="perfect", framework="vLLM 0.14", **FP8  # type: ignore[arg-type]
)  # fmt: skip


def step3() -> ModelSpec:
    """Step-3 (arXiv 2507.19427, model card): 61 layers of which 5 dense, 316B parameters, 38B active."""
    attention = AttentionSpec("gqa", 64, 1, 256, 256, q_lora_rank=2048)
    dense = LayerSpec(attention, FeedForwardSpec(18432), 5)
    sparse = LayerSpec(attention, FeedForwardSpec(5120, experts=48, topk=3, shared_inter=5120), 56)
    return ModelSpec("step3", "step3", 7168, 128815, (dense, sparse), (0,) * 5 + (1,) * 56)


def r1(deployment: Deployment, batch: float, system: str = "dgx-h800:32") -> InferenceCase:
    return InferenceCase(load_model("deepseek-r1"), load_system(system), deployment, "decode", batch, kv_len=4096)


def test_step3_is_the_published_size() -> None:
    counted = parameter_count(step3())
    assert counted.total == pytest.approx(316e9, rel=0.02)
    assert counted.active == pytest.approx(38e9, rel=0.03)


_TIME = st.floats(1e-6, 1e-2)


@given(_TIME, _TIME, _TIME, st.integers(2, 8), st.integers(1, 80))
def test_covered_transfers_give_equation_5_of_megascale_infer(
    a: float, f: float, c: float, m: int, layers: int
) -> None:
    """arXiv 2504.02263, equations 3 to 5: with c < T and m T >= 2 (T + c), T = max(a, f), a step of L layers takes
    (a + f + 2 c) + T (m L - 1)."""
    longest = max(a, f)
    c = min(c, longest)
    found = float(pipeline_s([(Stage(a, f, c, c), float(layers))], m))
    if m * longest >= 2 * (longest + c):
        assert found == pytest.approx((a + f + 2 * c) + longest * (m * layers - 1), rel=1e-9)
    assert found >= ((a + f + 2 * c) + longest * (m * layers - 1)) * (1 - 1e-12)


@given(_TIME, _TIME, _TIME, st.integers(1, 40))
def test_one_microbatch_waits_for_every_stage(a: float, f: float, c: float, layers: int) -> None:
    assert float(pipeline_s([(Stage(a, f, c, c), float(layers))], 1)) == pytest.approx(layers * (a + f + 2 * c))


@given(_TIME, _TIME, _TIME, st.integers(1, 6))
def test_a_period_is_never_below_the_busiest_side_or_a_round_trip(a: float, f: float, c: float, m: int) -> None:
    stage = Stage(a, f, c, c)
    assert float(stage.period_s(m)) >= m * max(a, f, c) * (1 - 1e-12)
    assert float(stage.period_s(m)) >= (a + f + 2 * c) * (1 - 1e-12)
    assert float(stage.period_s(m)) <= m * (a + f + 2 * c) * (1 + 1e-12)


def test_stages_of_step3_fit_their_budget() -> None:
    """arXiv 2507.19427: 4,039 tokens/s per GPU with TPOT of 50 ms at 4K context in FP8 on Hopper, three stages in a
    ping-pong of three micro-batches: attention, network and FFN have 50 / 3 ms each.

    On 2A2F the rate means 4,039 x 32 x 0.05 = 6,462 requests. FFN and transfers keep to their thirds, without waste;
    attention is given its third, as grouped kernels with 64 query heads to a key head are not measured.
    """
    budget = 0.05 / 3.0
    case = InferenceCase(step3(), load_system("dgx-h800:32"), SPLIT, "decode", 4039 * 0.05, kv_len=4096)
    figures = {name: float(value or 0.0) for name, value in predict(case).figures.items()}
    for stage in ("experts_stage_s", "transfer_home_s"):
        assert 0.4 * budget < 61 * figures[stage] < 1.0 * budget
    stage = Stage(budget / 61, figures["experts_stage_s"], figures["transfer_out_s"], figures["transfer_home_s"])
    assert case.batch / float(pipeline_s([(stage, 61.0)], 3)) == pytest.approx(4039, rel=0.05)


def test_the_sides_hold_the_whole_model_once() -> None:
    """Attention ranks are copies, expert devices share: 16 dp copies of one, 16 parts of the other."""
    d = replace(SPLIT, weight_dtype="bf16", activation_dtype="bf16", framework="")
    model, system = step3(), load_system("dgx-h800:32")
    attention, experts = afd_memory(model, system, d, 10.0, 4096.0)
    counted = parameter_count(model)
    shared = 16 * 56 * 3 * 5120 * 7168 * 2.0
    there = sum(
        p.feed_forward.experts * n + p.feed_forward.dense * m * 2
        for p, n, m in zip(counted.per_layer, (5, 56), (5, 0), strict=True)
    )
    assert 16 * experts.parameters_bytes == pytest.approx(2.0 * there + shared, rel=0.01)
    own = counted.total - sum(p.feed_forward.total * n for p, n in zip(counted.per_layer, (5, 56), strict=True))
    assert attention.parameters_bytes == pytest.approx(2.0 * own, rel=0.01)
    assert experts.kv_cache_bytes == 0.0
    assert attention.kv_cache_bytes == pytest.approx(10 * 4096 * 61 * 2 * 256)


def test_three_microbatches_hide_what_one_shows() -> None:
    times = {m: predict(r1(replace(SPLIT, afd_microbatches=m), 64.0)).step_time_s for m in (1, 2, 3)}
    assert times[1] > times[2] >= times[3] * 0.9
    one = predict(r1(replace(SPLIT, afd_microbatches=1), 64.0)).figures
    assert float(one["attention_busy_share"] or 0) + float(one["experts_busy_share"] or 0) < 1.0


def test_more_attention_for_long_contexts() -> None:
    """Step-3, section 5: the number of attention instances follows the context, that of the experts the batch."""

    def busiest(kv_len: int, x: int) -> str:
        d = replace(SPLIT, afd=(x, 4 - x), dp=8 * x, ep=8 * (4 - x))
        figures = predict(replace(r1(d, 64.0), kv_len=kv_len)).figures
        return max(("attention", "experts"), key=lambda side: float(figures[f"{side}_busy_share"] or 0.0))

    assert busiest(32768, 1) == "attention"
    assert busiest(256, 3) == "experts"


def test_figures_and_breakdown_agree() -> None:
    found = predict(r1(replace(SPLIT, mtp_tokens=1, mtp_acceptance=0.7), 32.0))
    assert sum(p.time_s for p in found.breakdown) == pytest.approx(found.step_time_s, rel=1e-6)
    assert found.layout["afd"] == "2A2F"
    assert found.figures["tpot_s"] == pytest.approx(found.step_time_s / 1.7)
    plain = predict(r1(SPLIT, 32.0))
    assert plain.step_time_s < found.step_time_s


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dp": 8}, r"tp\(1\) x dp\(8\) != 2A x 8 = 16 attention devices; legal dp: 16"),
        ({"ep": 5}, r"ep\(5\) does not divide 2F x 8 = 16 devices; legal: 1, 2, 4, 8, 16"),
        ({"tp": 3}, "legal: 1, 2, 4, 8"),
        ({"pp": 2}, "pp 1"),
        ({"afd_microbatches": 0}, "1 or more"),
        ({"afd": (2, 0)}, "1 or more"),
        ({"afd": (3, 2), "dp": 24}, r"\(3A \+ 2F\) x 8 = 40 devices"),
    ],
)
def test_illegal_splits_show_the_arithmetic(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        predict(r1(replace(SPLIT, **changes), 32.0))  # type: ignore[arg-type]
