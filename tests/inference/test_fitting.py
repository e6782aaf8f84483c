"""What fits: the largest batch is a boundary, and what is proposed in place of a deployment that does not fit does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supertwin.core.errors import InputError
from supertwin.inference import Deployment, InferenceCase
from supertwin.inference.engines import engine
from supertwin.inference.fitting import largest_fitting_batch, nearest_fitting
from supertwin.inference.predict import memory
from supertwin.machine import load_system
from supertwin.model import load_model


def case(model: str, system: str, deployment: Deployment, kv_len: int = 4096, batch: float = 1.0) -> InferenceCase:
    return InferenceCase(load_model(model), load_system(system), deployment, "decode", batch, kv_len=kv_len)


DENSE = Deployment(tp=8, framework="vLLM 0.14")
WIDE = Deployment(
    dp=32, ep=32, dp_attention=True, weight_dtype="int8", activation_dtype="int8", framework="CloudMatrix-Infer"
)
SPLIT = Deployment(dp=16, ep=16, dp_attention=True, afd=(2, 2), weight_dtype="fp8", activation_dtype="fp8")


@pytest.mark.parametrize(
    ("model", "system", "deployment"),
    [
        ("llama-3.1-70b", "dgx-h100:8", DENSE),
        ("llama-3.1-70b", "dgx-h100:8", replace(DENSE, tp=4, pp=2, framework="TensorRT-LLM 1.0")),
        ("deepseek-r1", "cm384:32", WIDE),
        ("deepseek-r1", "dgx-h800:32", SPLIT),
        ("qwen3-next-80b-a3b", "dgx-h100:4", Deployment(tp=4)),
    ],
)
@pytest.mark.parametrize("kv_len", [1024, 16384])
def test_the_largest_batch_is_the_last_that_fits(model: str, system: str, deployment: Deployment, kv_len: int) -> None:
    asked = case(model, system, deployment, kv_len)
    batch = largest_fitting_batch(asked)
    about = engine(deployment.framework, asked.system.chip)
    assert batch > 0.0
    used = memory(replace(asked, batch=batch))
    one_more = memory(replace(asked, batch=batch + 1.0 / deployment.rank_devices))
    free = used.capacity_bytes - (one_more.peak_bytes - one_more.kv_cache_bytes)
    limit = about.memory_fraction
    assert used.fits
    assert (
        (one_more.kv_cache_bytes > limit * free)
        if about.of_free
        else (one_more.peak_bytes > limit * one_more.capacity_bytes)
    )


def test_cache_of_the_largest_batch_is_what_weights_leave() -> None:
    """Independent count: Llama-70B in BF16 on 8 x 80 GB caches 80 layers x 2 x 128 x 2 B per token and device."""
    asked = case("llama-3.1-70b", "dgx-h100:8", DENSE, 8192)
    per_sequence = 80 * 2 * 128 * 2.0 * 8192
    beside = (0.66 + 0.75 + 51 * 24 / 1024) * 2**30  # process, communicators, 51 graphs
    free = 0.9 * asked.system.chip.usable_memory_bytes - 2.0 * 70.55e9 / 8 - beside
    assert largest_fitting_batch(asked) * 8 == pytest.approx(free / per_sequence, rel=0.02)


def test_too_large_a_model_has_no_batch() -> None:
    assert largest_fitting_batch(case("llama-3.1-405b", "dgx-h100:8", DENSE)) == 0.0


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        (case("llama-3.1-70b", "dgx-h100:8", DENSE, 32768, 8.0), {"batch", "kv_dtype"}),
        (case("llama-3.1-405b", "dgx-h100:8", DENSE), {"weight_dtype", "tp", "pp"}),
        (case("deepseek-r1", "cm384:8", replace(WIDE, dp=8, ep=8)), {"dp", "tp", "pp"}),
    ],
)
def test_what_is_proposed_fits_and_changes_little(asked: InferenceCase, options: set[str]) -> None:
    assert not memory(asked).fits
    found = nearest_fitting(asked)
    assert found
    assert all(one.memory.fits and one.headroom_bytes >= 0.0 for one in found)
    assert set().union(*(one.changes for one in found)) & options
    rates = [one.tokens_per_s_per_device for one in found]
    assert rates == sorted(rates, reverse=True)


def test_what_fits_needs_no_change_of_its_machine() -> None:
    for one in nearest_fitting(case("llama-3.1-70b", "dgx-h100:8", DENSE, 32768, 8.0)):
        assert ("on" in one.changes) == (one.case.system.devices != 8)


def test_an_illegal_case_is_refused() -> None:
    with pytest.raises(InputError, match=r"tp\(3\)"):
        largest_fitting_batch(case("llama-3.1-70b", "dgx-h100:6", replace(DENSE, tp=3)))
