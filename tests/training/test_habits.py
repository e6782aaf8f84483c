"""Frameworks, hosts and overlap: rules that hold whatever the numbers are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supertwin.training.assumptions import all_assumptions, host_slowness
from supertwin.training.frameworks import (
    DEFAULT,
    default_etp,
    default_recompute,
    framework_named,
    framework_names,
)
from supertwin.training.host import host_cost
from supertwin.training.sharding import hide


def test_every_assumption_says_why_and_from_where() -> None:
    found = all_assumptions()
    assert len(found) > 15
    assert len({item.name for item in found}) == len(found)
    for item in found:
        assert len(item.reason) > 20
        assert item.source
        assert item.author


def test_every_framework_has_a_reason() -> None:
    assert all(len(framework_named(name).reason) > 20 for name in framework_names())


def test_the_longest_prefix_wins() -> None:
    assert framework_named("megatron-bridge 26.04.01").name == "megatron-bridge"
    assert framework_named("Megatron-DeepSpeed").name == "megatron-deepspeed"
    assert framework_named("megatron-lm").name == "megatron-lm"
    assert framework_named("") is DEFAULT
    assert framework_named("somebody's own") is DEFAULT


def test_expert_tensor_size_follows_tp_only_where_it_fits() -> None:
    assert default_etp("mindspeed-llm", 4, 2, 8, 64) == 4
    assert default_etp("mindspeed-llm", 4, 8, 8, 64) == 1
    assert default_etp("megatron-bridge", 4, 2, 8, 64) == 1
    assert default_etp("mindspeed-llm", 4, 1, 8, 0) == 1
    assert default_recompute("maxtext") == "full"


@given(st.floats(0.0, 10.0), st.floats(0.0, 10.0), st.floats(0.0, 50.0))
def test_hiding_conserves_time(communication_s: float, window_s: float, pieces: float) -> None:
    got = hide(communication_s, window_s, pieces)
    assert got.exposed_s + got.hidden_s == pytest.approx(communication_s)
    assert 0.0 <= got.hidden_s <= window_s + 1e-12
    assert got.exposed_s >= communication_s / max(pieces, 1.0) - 1e-12


@given(st.floats(0.0, 10.0), st.floats(0.0, 10.0), st.floats(1.0, 50.0), st.floats(0.0, 1.0))
def test_overlap_is_never_worse_than_taking_turns(
    communication_s: float, window_s: float, pieces: float, loss: float
) -> None:
    got = hide(communication_s, window_s, pieces).visible_s(loss)
    assert got <= communication_s * (1 + 1e-12)
    assert got >= hide(communication_s, window_s, pieces).exposed_s
    faster = hide(0.5 * communication_s, window_s, pieces).visible_s(loss)
    assert faster <= got + 1e-9


def test_graphs_relieve_the_host_and_old_hosts_are_slower() -> None:
    eager, graph = host_cost("eager", "hopper", "forward"), host_cost("graph", "hopper", "forward")
    assert eager.issue_s(13, 2) > 10 * graph.issue_s(13, 2)
    assert eager.issue_s(0, 0) == 0.0
    assert host_slowness("ampere") > host_slowness("hopper") > host_slowness("blackwell") >= 1.0
    nested = host_cost("eager", "hopper", "checkpoint")
    assert nested.issue_s(13, 0) > eager.issue_s(13, 0)


def test_the_measured_layer_is_reproduced() -> None:
    """320 us of framework and 40 launches of 4.5 us for 13 listed operators of a GPT layer (docs/training.md)."""
    own = host_cost("eager", "blackwell", "forward").issue_s(13, 0) / host_slowness("blackwell")
    assert own == pytest.approx(320e-6 + 40 * 4.5e-6, rel=0.05)
