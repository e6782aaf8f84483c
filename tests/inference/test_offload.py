"""Keys in host memory (offload.py): hit rates of cann-recipes-infer, the price of a layer, memory."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supertwin.core.errors import InputError
from supertwin.inference import check
from supertwin.inference.case import Deployment, InferenceCase
from supertwin.inference.memory import memory_of
from supertwin.inference.offload import HOST_STREAM_SHARE, fetch_s, hit_rate
from supertwin.inference.shape import Shape
from supertwin.inference.step import step
from supertwin.machine import load_system
from supertwin.model import load_model

_CASE = {
    "dp": 32, "ep": 32, "dp_attention": True, "weight_dtype": "int8", "activation_dtype": "int8", "mtp_tokens": 3,
    "framework": "cann-recipes", "expert_balance": "perfect",
}  # fmt: skip


def _time_s(pool: int) -> float:
    shape = Shape("decode", np.array([4.0]), np.array([128.0]), 4.0, 65536.0)
    found = step(load_model("glm-5.2"), load_system("cm384:32"), Deployment(kv_pool=pool, **_CASE), shape)  # type: ignore[arg-type]
    return float(np.ravel(found.time_s)[0])


@pytest.mark.parametrize(("pool", "rate"), [(2048, 0.5885), (8192, 0.85), (16384, 0.90)])
def test_published_hit_rates(pool: int, rate: float) -> None:
    assert hit_rate(pool, 2048) == pytest.approx(rate)


@given(st.floats(1.0, 1e6), st.floats(1.0, 1e6))
def test_a_larger_pool_never_misses_more(one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert 0.0 < hit_rate(small, 2048) <= hit_rate(large, 2048) < 1.0


def test_misses_cost_more_than_a_pool_that_holds_all() -> None:
    on_device, small, large = (_time_s(pool) for pool in (0, 8192, 16384))
    assert on_device < large < small


def test_the_step_grows_by_reads_of_all_layers() -> None:
    """78 layers and three draft passes, 4 sequences x 4 queries x 2,048 entries of 1,152 bytes, 15 % missed."""
    missed = 16 * 2048 * 0.15
    reads = fetch_s(load_system("cm384:32"), missed * 1152, missed) * 81
    grown = _time_s(8192) - _time_s(0)
    assert reads < grown < 2.0 * reads


def test_single_entries_are_bound_by_the_latency_of_their_reads() -> None:
    """4,915 missed entries of 2 reads each over 48 vector cores: 205 reads of 0.997 us one after the other."""
    system = load_system("cm384:32")
    assert fetch_s(system, 4915 * 1152, 4915.0) == pytest.approx(204e-6, rel=0.01)
    assert fetch_s(system, 4915 * 1152) == pytest.approx(94.5e-6, rel=0.01)


def test_rate_is_a_devices_share_of_its_nodes_memory() -> None:
    """1,331 GB/s of four Kunpeng for 16 dies, less than the link of 151 GB/s."""
    assert math.isclose(fetch_s(load_system("cm384:32"), 1e9), 16 / (1331.0 * HOST_STREAM_SHARE), rel_tol=1e-6)


def test_keys_leave_the_device_but_not_those_of_the_indexer() -> None:
    def kv(pool: int, context: float) -> float:
        case = Deployment(kv_pool=pool, **_CASE)  # type: ignore[arg-type]
        return memory_of(load_model("glm-5.2"), load_system("cm384:32"), case, 4.0, context, 16.0).kv_cache_bytes

    assert kv(8192, 8192.0) == pytest.approx(kv(0, 8192.0))
    assert kv(8192, 65536.0) < 0.5 * kv(0, 65536.0)
    assert kv(8192, 131072.0) > kv(8192, 65536.0)


def test_only_sparse_attention_leaves_its_keys_on_the_host() -> None:
    model, system = load_model("deepseek-r1"), load_system("cm384:64")
    dense = InferenceCase(model, system, Deployment(kv_pool=100), "decode", 1, kv_len=64)
    with pytest.raises(InputError, match="no sparse attention"):
        check(dense)
