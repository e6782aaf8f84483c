"""Dispatch and combine of experts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supertwin.core.errors import UnknownName
from supertwin.machine.systems import load_system
from supertwin.network.communication import communication_time
from supertwin.network.exchange import distinct_places, exchange_time, token_bytes
from supertwin.network.group import Group
from supertwin.workload.operators import Communication

SYSTEMS = ("cm384", "dgx-h100", "dgx-h800", "gb200-nvl72", "mi300x-8")
OPS = st.sampled_from(["dispatch", "combine"])


@pytest.mark.parametrize(("places", "topk"), [(2, 8), (8, 8), (16, 4), (320, 8)])
def test_distinct_places_against_simulation(places: int, topk: int) -> None:
    drawn = np.random.default_rng(1).integers(places, size=(200_000, topk))
    drawn.sort(axis=1)
    simulated = (1 + (np.diff(drawn, axis=1) > 0).sum(axis=1)).mean()
    assert distinct_places(places, topk) == pytest.approx(simulated, rel=0.005)


def test_token_bytes_as_published() -> None:
    # CloudMatrix384 paper 4.2.1: dispatch 7 KB INT8 + 512 B, combine 14 KB per token of hidden 7168
    assert token_bytes(7168.0, "int8") == 7.5 * 1024
    assert token_bytes(7168.0, "bf16") == 14 * 1024
    assert token_bytes(7168.0, "fp8") == 7168 + 7168 / 128 * 4  # DeepEP: one FP32 scale per 128


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(SYSTEMS),
    OPS,
    st.sampled_from([2, 8, 64, 256]),
    st.lists(st.floats(1, 8192), min_size=2, max_size=6),
)
def test_more_tokens_take_longer_in_each_mode(name: str, op: str, n: int, several: list[float]) -> None:
    system = load_system(name)
    tokens = np.sort(np.array(several))
    for mode in ("normal", "low-latency"):
        times = np.asarray(exchange_time(system, op, tokens, 7168.0, 8.0, Group(n), mode=mode, experts=256).time_s)
        assert np.all(np.diff(times) >= 0)
        one = exchange_time(system, op, float(tokens[0]), 7168.0, 8.0, Group(n), mode=mode, experts=256).time_s
        assert one == pytest.approx(times[0])


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(SYSTEMS), OPS, st.sampled_from([8, 64, 256]), st.floats(1, 65536))
def test_never_faster_than_the_least_bytes_over_all_links(name: str, op: str, n: int, tokens: float) -> None:
    # at least one copy per token has to reach another rank with probability 1 - 1/n
    system = load_system(name)
    rate = sum(tier.bandwidth_bytes_per_s for tier in system.tiers)
    found = exchange_time(system, op, tokens, 7168.0, 8.0, Group(n), dtype="bf16", experts=256)
    assert found.time_s >= tokens * 7168 * 2 * (1 - 1 / n) / rate


def test_smaller_payload_is_not_slower() -> None:
    system = load_system("dgx-h100")
    full, quantised = (
        exchange_time(system, "dispatch", 4096.0, 7168.0, 8.0, Group(16), dtype=d, mode="normal").time_s
        for d in ("bf16", "fp8")
    )
    assert quantised < full


def test_limiting_nodes_saves_scale_out_bytes() -> None:
    system = load_system("dgx-h800")
    free, limited = (
        exchange_time(system, "dispatch", 4096.0, 7168.0, 8.0, Group(64), mode="normal", block_limit=b).time_s
        for b in (0.0, 4.0)
    )
    assert limited < free


def test_auto_takes_low_latency_for_few_tokens_only() -> None:
    system = load_system("dgx-h100")
    few, many = (exchange_time(system, "dispatch", t, 7168.0, 8.0, Group(32), experts=256) for t in (128.0, 8192.0))
    assert (few.algorithm, many.algorithm) == ("low-latency", "normal")


def test_operators_go_to_the_right_price() -> None:
    system = load_system("cm384")
    tokens = Communication(
        part="moe/dispatch", op="dispatch", axis="ep", message_bytes=0.0, tokens=96.0, hidden=7168.0, topk=8.0,
        dtype="int8",
    )  # fmt: skip
    direct = exchange_time(system, "dispatch", 96.0, 7168.0, 8.0, Group(320), dtype="int8")
    assert communication_time(system, tokens, Group(320)).time_s == pytest.approx(direct.time_s)
    reduce = Communication(part="attention/out", op="all_reduce", axis="tp", message_bytes=1e6)
    assert communication_time(system, reduce, Group(8)).tier == "ub-node"


def test_unknown_mode_is_named() -> None:
    with pytest.raises(UnknownName, match="low-latency"):
        exchange_time(load_system("cm384"), "dispatch", 1.0, 7168.0, 8.0, Group(8), mode="low_latency")
