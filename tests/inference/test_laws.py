"""Laws of a step that hold for any model, machine and layout: monotone sizes and machines, sums, replicas, balance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from supertwin.core.errors import InputError
from supertwin.core.prediction import Prediction
from supertwin.inference import Deployment, InferenceCase, predict
from supertwin.inference.placement import moe
from supertwin.machine import load_system, with_devices
from supertwin.machine.doubled import doubled
from supertwin.machine.system import System
from supertwin.model import load_model

LAWS = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.filter_too_much],
)
MODELS = (
    "deepseek-r1", "deepseek-v3.2", "deepseek-v4-flash", "llama-3.1-70b", "qwen3-235b-a22b", "gpt-oss-120b",
    "qwen3-next-80b-a3b", "mixtral-8x7b", "gemma2-9b",
)  # fmt: skip
SYSTEMS = ("cm384", "gb200-nvl72", "dgx-h100:64", "dgx-h200:64", "dgx-b200:64")
KERNELS = 0.05
"""Measured kernels are not quite monotone in their sizes (tiles, splits), and residual surfaces follow them."""
FORMATS = (("bf16", "bf16"), ("fp8", "fp8"), ("int8", "int8"), ("int4", "bf16"))
EXACT = 1e-9

model_named = lru_cache(load_model)
system_named = lru_cache(load_system)


@st.composite
def deployments(draw: st.DrawFn) -> Deployment:
    """Layouts of up to 64 devices; experts over all devices that share them, or cut."""
    tp, dp = draw(st.sampled_from([(1, 1), (2, 1), (8, 1), (1, 8), (2, 4), (4, 8), (1, 32)]))
    weight, activation = draw(st.sampled_from(FORMATS))
    shared = draw(st.booleans())
    drafts = draw(st.sampled_from([0, 0, 1, 2]))
    return Deployment(
        tp=tp, dp=dp, pp=draw(st.sampled_from([1, 1, 2])), dp_attention=shared,
        ep=draw(st.sampled_from([1, tp * dp if shared else tp])), weight_dtype=weight, activation_dtype=activation,
        kv_dtype=draw(st.sampled_from(["bf16", "fp8"])), mtp_tokens=drafts, mtp_acceptance=0.7 if drafts else 0.0,
        expert_balance=draw(st.sampled_from(["natural", "perfect"])),
        redundant_experts=draw(st.sampled_from([0, 32])),
        framework=draw(st.sampled_from(["", "vllm", "sglang", "trtllm"])),
    )  # fmt: skip


class Drawn(NamedTuple):
    """A case that prints short."""

    case: InferenceCase

    def __repr__(self) -> str:
        c = self.case
        sizes = f"batch {c.batch:g}, input {c.input_len}, kv {c.kv_len}, prefix {c.prefix_len}, chunk {c.chunk_tokens}"
        return f"{c.model.name} on {c.system.name}:{c.system.devices}, {c.phase}, {sizes}, {c.deployment}"


@st.composite
def cases(draw: st.DrawFn, phases: tuple[str, ...] = ("prefill", "decode", "mixed")) -> Drawn:
    """Legal cases on a machine of just the devices that they need; two micro-batches now and then."""
    d = draw(deployments())
    model = model_named(draw(st.sampled_from(MODELS)))
    phase = draw(st.sampled_from(phases))
    if moe(model) is None:
        d = replace(d, ep=1, redundant_experts=0)
    elif d.ep > 1 and d.dp_attention and d.dp > 1 and phase == "prefill":
        d = replace(d, microbatch_overlap=draw(st.booleans()))
    system = with_devices(system_named(draw(st.sampled_from(SYSTEMS))), d.devices)
    batch = draw(st.sampled_from([0.25, 1.0, 2.0] if phase == "prefill" else [0.25, 1.0, 8.0, 32.0, 128.0]))
    batch = max(batch, 1.0 / d.devices)
    case = InferenceCase(
        model, system, d, phase, batch, input_len=draw(st.sampled_from([128, 2048, 8192])),
        kv_len=draw(st.sampled_from([128, 4096, 32768])), prefix_len=draw(st.sampled_from([0, 4096])),
        chunk_tokens=draw(st.sampled_from([256, 2048])) if phase == "mixed" else 0,
    )  # fmt: skip
    try:
        predict(case)
    except InputError:
        assume(False)
    return Drawn(case)


def on(case: InferenceCase, **fields: object) -> InferenceCase:
    """The case with other fields of its deployment."""
    return replace(case, deployment=replace(case.deployment, **fields))  # type: ignore[arg-type]


def seconds(case: InferenceCase) -> float:
    return predict(case).step_time_s


@pytest.mark.parametrize("batch", [float("nan"), float("inf"), -1.0, 0.0])
def test_a_batch_that_is_no_number_of_requests_is_refused(batch: float) -> None:
    case = InferenceCase(
        model_named("mixtral-8x7b"), load_system("dgx-h100:1"), Deployment(), "decode", batch, kv_len=9
    )
    with pytest.raises(InputError, match="expected requests per device above 0"):
        predict(case)


@LAWS
@given(cases())
def test_figures_agree_with_each_other(drawn: Drawn) -> None:
    case = drawn.case
    p = predict(case)
    assert sum(part.time_s for part in p.breakdown) == pytest.approx(p.step_time_s, rel=EXACT)
    assert sum(part.share for part in p.breakdown) == pytest.approx(1.0, rel=EXACT)
    m = p.memory
    held = m.parameters_bytes + m.activations_bytes + m.kv_cache_bytes + m.workspace_bytes
    assert held == pytest.approx(m.peak_bytes, rel=EXACT)
    accepted = 1.0 + case.deployment.mtp_tokens * case.deployment.mtp_acceptance
    if case.phase != "prefill":
        rate = case.batch * accepted / p.step_time_s
        assert p.figures["output_tokens_per_s_per_device"] == pytest.approx(rate, rel=EXACT)
        assert p.figures["output_tokens_per_s_per_user"] == pytest.approx(accepted / p.step_time_s, rel=EXACT)
        assert p.figures["tpot_s"] == pytest.approx(p.step_time_s / accepted, rel=EXACT)
    watts = (p.bill.energy_j_per_token or 0.0) * p.tokens_per_s_per_device * case.deployment.devices
    assert watts == pytest.approx(p.bill.power_w or 0.0, rel=EXACT)
    assert 0.0 < (p.figures["mfu"] or 0.0) <= 1.0
    assert 0.0 < (p.figures["hbm_use"] or 0.0) <= 1.0


def _memory_grows(more: Prediction, less: Prediction) -> None:
    """Cache and activations; buffers of the exchange are those of other kernels beyond some tokens."""
    for one, other in ((more.memory.kv_cache_bytes, less.memory.kv_cache_bytes), (_used(more), _used(less))):
        assert one >= other * (1.0 - EXACT)


def _used(p: Prediction) -> float:
    return p.memory.peak_bytes - p.memory.workspace_bytes


@LAWS
@given(cases(), st.sampled_from([2.0, 4.0]))
def test_a_larger_batch_is_never_faster(drawn: Drawn, factor: float) -> None:
    case = drawn.case
    less, more = predict(case), predict(replace(case, batch=case.batch * factor))
    assert more.step_time_s >= less.step_time_s * (1.0 - KERNELS)
    _memory_grows(more, less)


@LAWS
@given(cases(), st.sampled_from([1.25, 2.0, 4.0]))
def test_longer_is_never_faster(drawn: Drawn, factor: float) -> None:
    """Context in decode; prompt and prefix in prefill; context and chunk in a mixed step."""
    case = drawn.case
    longer: dict[str, Callable[[InferenceCase], list[InferenceCase]]] = {
        "decode": lambda c: [replace(c, kv_len=int(c.kv_len * factor))],
        "prefill": lambda c: [
            replace(c, input_len=int(c.input_len * factor)),
            replace(c, prefix_len=c.prefix_len + 512),
        ],
        "mixed": lambda c: [replace(c, kv_len=int(c.kv_len * factor)), replace(c, chunk_tokens=c.chunk_tokens * 2)],
    }
    less = predict(case)
    for other in longer[case.phase](case):
        more = predict(other)
        assert more.step_time_s >= less.step_time_s * (1.0 - KERNELS)
        _memory_grows(more, less)


@LAWS
@given(cases())
def test_a_better_machine_is_never_slower(drawn: Drawn) -> None:
    case = drawn.case
    now = seconds(case)
    better = [system for _, system in doubled(case.system)]
    better.append(_links(case.system, bandwidth_bytes_per_s=2.0))
    better.append(_links(case.system, latency_s=0.5))
    for system in better:
        assert seconds(replace(case, system=system)) <= now * (1.0 + EXACT)


@LAWS
@given(
    st.sampled_from(["deepseek-r1", "qwen3-235b-a22b", "kimi-k2", "glm-4.7"]),
    st.sampled_from([16, 32, 64]),
    st.integers(2, 96),
    st.integers(512, 16_384),
    st.integers(0, 1),
)
def test_a_better_machine_does_not_slow_two_micro_batches(name: str, n: int, batch: int, kv: int, drafts: int) -> None:
    """On two groups of cores of one die; a per cent is left of finding how both share the bandwidth."""
    deployment = Deployment(
        dp=n, ep=n, dp_attention=True, weight_dtype="int8", activation_dtype="int8", mtp_tokens=drafts,
        mtp_acceptance=0.7, framework="cloudmatrix-infer", expert_balance="perfect", microbatch_overlap=True,
    )  # fmt: skip
    case = InferenceCase(load_model(name), load_system(f"cm384:{n}"), deployment, "decode", batch, kv_len=kv)
    now = seconds(case)
    for _, better in doubled(case.system):
        assert seconds(replace(case, system=better)) <= now * 1.01


def _links(system: System, **factors: float) -> System:
    """All tiers of the fabric with other figures."""
    tiers = (replace(t, **{name: getattr(t, name) * by for name, by in factors.items()}) for t in system.tiers)
    return replace(system, tiers=tuple(tiers))


@LAWS
@given(cases(("prefill", "decode")))
def test_perfect_balance_is_never_slower_where_every_expert_has_rows(drawn: Drawn) -> None:
    """With fewer rows than experts an even deal reads experts that natural routing leaves out; even rows may fall just
    beyond a tile."""
    case = drawn.case
    mixture = moe(case.model)
    assume(mixture is not None and case.deployment.ep > 1)
    assert mixture is not None
    new = case.input_len if case.phase == "prefill" else 1 + case.deployment.mtp_tokens
    together = case.deployment.tp * (case.deployment.dp if case.deployment.dp_attention else 1)
    rows = case.batch * together * new * mixture.topk / (mixture.experts + case.deployment.redundant_experts)
    assume(rows >= 8.0)
    even = seconds(on(case, expert_balance="perfect"))
    assert even <= seconds(on(case, expert_balance="natural")) * (1.0 + KERNELS)


@LAWS
@given(cases())
def test_ranks_that_share_nothing_are_replicas(drawn: Drawn) -> None:
    """Twice the data-parallel ranks with requests of their own: the same step, the same rate and memory per device."""
    case = drawn.case
    d = case.deployment
    alone = on(case, dp_attention=False, ep=min(d.ep, d.tp), microbatch_overlap=False)
    twice = replace(on(alone, dp=2 * d.dp), system=with_devices(system_named("dgx-h100:128"), 2 * d.devices))
    alone = replace(alone, system=with_devices(system_named("dgx-h100:128"), d.devices))
    one, two = predict(alone), predict(twice)
    assert two.step_time_s == pytest.approx(one.step_time_s, rel=EXACT)
    assert two.tokens_per_s_per_device == pytest.approx(one.tokens_per_s_per_device, rel=EXACT)
    assert two.memory.peak_bytes == pytest.approx(one.memory.peak_bytes, rel=EXACT)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_one_request_on_many_ranks_does_not_wait_for_a_full_exchange(phase: str) -> None:
    """Idle ranks send nothing: what the busiest rank gets of one request is less than its own ranks send when all have
    one, so a second request costs a part of the first."""
    d = Deployment(
        dp=32, ep=32, dp_attention=True, weight_dtype="int8", activation_dtype="int8", framework="cloudmatrix-infer"
    )
    case = InferenceCase(
        model_named("deepseek-r1"), load_system("cm384:32"), d, phase, 1.0 / 32, input_len=4096, kv_len=4096
    )
    times = [seconds(replace(case, batch=n / 32)) for n in (1, 2, 4, 32)]
    assert times == sorted(times)
    assert times[1] < 2.0 * times[0]


def test_an_exchange_apart_needs_no_fp32_unit() -> None:
    """The gate's FP32 copy is for chips that multiply FP32."""
    d = Deployment(dp=16, ep=16, dp_attention=True, redundant_experts=8, exchange="separate")
    case = InferenceCase(model_named("mixtral-8x7b"), load_system("tpu-v5p:16"), d, "decode", 8.0, kv_len=1024)
    assert seconds(case) > seconds(on(case, exchange=""))


def test_prompts_of_a_mixed_step_hold_their_own_states() -> None:
    """A prompt counts once, however short the context of the sequences beside it."""
    system = load_system("dgx-h200:8")
    d = Deployment(tp=8)
    case = InferenceCase(
        model_named("qwen3-next-80b-a3b"), system, d, "mixed", 8.0, input_len=16384, kv_len=128, chunk_tokens=2048
    )
    prompt = InferenceCase(model_named("qwen3-next-80b-a3b"), system, d, "prefill", 1.0 / 8, input_len=16384)
    decode = replace(case, phase="decode", chunk_tokens=0)
    apart = predict(prompt).memory.kv_cache_bytes + predict(decode).memory.kv_cache_bytes
    assert predict(case).memory.kv_cache_bytes == pytest.approx(apart, rel=EXACT)
