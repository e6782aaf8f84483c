"""Context parallelism and pipelines spend devices; they do not give speed away."""

from __future__ import annotations

import pytest

from supertwin.core.errors import InputError
from supertwin.core.prediction import Prediction
from supertwin.inference import Deployment, InferenceCase, predict
from supertwin.machine import load_system
from supertwin.model import load_model


def one(model: str, system: str, phase: str, batch: float, deployment: Deployment) -> Prediction:
    lengths = {"input_len": 8192} if phase == "prefill" else {"kv_len": 8192}
    return predict(InferenceCase(load_model(model), load_system(system), deployment, phase, batch, **lengths))


@pytest.mark.parametrize("model", ["llama-3.1-8b", "deepseek-v2-lite"])
@pytest.mark.parametrize("tp", [1, 2])
def test_prefill_context_parallelism_adds_devices_and_gives_no_speed_away(model: str, tp: int) -> None:
    """One prompt on tp x cp devices: sooner done, at a lower rate per device (keys travel, matrices get smaller)."""
    cases = [one(model, "dgx-h100:8", "prefill", 1 / (tp * cp), Deployment(tp=tp, cp=cp)) for cp in (1, 2, 4)]
    rates = [p.tokens_per_s_per_device for p in cases]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0.2 * rates[0]
    assert [p.layout["devices"] for p in cases] == [tp, 2 * tp, 4 * tp]
    assert [p.step_time_s for p in cases] == sorted((p.step_time_s for p in cases), reverse=True)
    for p in cases:
        assert p.step_time_s * p.tokens_per_s_per_device * int(p.layout["devices"]) == pytest.approx(8192)
        assert p.figures["mfu"] == pytest.approx(
            cases[0].figures["mfu"] * p.tokens_per_s_per_device / rates[0], rel=0.2
        )


def test_the_cache_of_a_prompt_is_cut_over_its_context_ranks() -> None:
    whole, cut = (
        one("llama-3.1-8b", "dgx-h100:8", "prefill", 1 / cp, Deployment(cp=cp)).memory.kv_cache_bytes for cp in (1, 4)
    )
    assert cut == pytest.approx(whole / 4)


@pytest.mark.parametrize(("phase", "cp"), [("prefill", 3), ("prefill", 16), ("decode", 2), ("decode", 3)])
def test_context_sizes_that_do_not_fit_the_devices_are_refused(phase: str, cp: int) -> None:
    """Llama 8B has 8 KV heads: tp 8 holds no copies that decode could share out."""
    tp = 1 if phase == "prefill" else 8
    with pytest.raises(InputError, match=r"cp\("):
        one("llama-3.1-8b", "dgx-h100:8", phase, 1.0, Deployment(tp=tp, cp=cp))


def test_decode_context_parallelism_shares_the_copies_of_a_latent_cache() -> None:
    """vLLM: decode_context_parallel_size; one latent KV head is held tp times otherwise."""
    plain, cut = (one("deepseek-r1", "dgx-h200:8", "decode", 2.0, eight_bit(cp)) for cp in (1, 8))
    assert cut.memory.kv_cache_bytes == pytest.approx(plain.memory.kv_cache_bytes / 8)
    assert cut.layout["devices"] == plain.layout["devices"] == 8
    assert cut.tokens_per_s_per_device < 1.5 * plain.tokens_per_s_per_device


def eight_bit(cp: int) -> Deployment:
    return Deployment(tp=8, cp=cp, weight_dtype="fp8-blockwise", activation_dtype="fp8-blockwise")


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("batch", [4.0, 0.5])
def test_use_follows_the_rate_whatever_the_pipeline(phase: str, batch: float) -> None:
    """pp micro-batches run per step: arithmetic per token does not depend on pp."""
    cases = [one("llama-3.1-70b", "dgx-h200:8", phase, batch, Deployment(tp=2, pp=pp)) for pp in (1, 2, 4)]
    per_rate = [float(p.figures["mfu"] or 0.0) / p.tokens_per_s_per_device for p in cases]
    assert per_rate == pytest.approx([per_rate[0]] * 3, rel=1e-6)
