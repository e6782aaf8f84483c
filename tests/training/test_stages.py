"""Layers on pipeline devices."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from supertwin.training.stages import split_layers, stage_plan


@given(st.integers(1, 200), st.integers(1, 32), st.integers(1, 8), st.floats(0.0, 3.0))
def test_every_layer_is_placed_once_and_evenly(layers: int, pp: int, vpp: int, head: float) -> None:
    sizes = split_layers(layers, pp, vpp, head)
    assert len(sizes) == pp * vpp
    assert sum(sizes) == layers
    assert min(sizes) >= 0
    loads = [sum(sizes[d::pp]) for d in range(pp)]
    assert max(loads) <= -(-layers // (pp * vpp)) * vpp


def test_bloom_and_llama_give_up_layers_at_the_ends() -> None:
    """70 layers on 12 stages and 126 layers on 16 x 8 chunks: both ends hold one layer less (embedding, head)."""
    assert split_layers(70, 12, 1, 0.5) == (5, *[6] * 10, 5)
    sizes = split_layers(126, 16, 8, 0.5)
    assert (sizes[0], sizes[-1]) == (0, 0)
    assert set(sizes[1:-1]) == {1}


def test_kinds_follow_the_order() -> None:
    order = (0, 0, 0, *[1] * 13)
    plan = stage_plan(order, (4, 1), "1f1b", 0.0)
    assert plan.counts.tolist() == [[3, 1], [0, 4], [0, 4], [0, 4]]
    assert plan.embedding.tolist() == [1, 0, 0, 0]
    assert plan.head.tolist() == [0, 0, 0, 1]


def test_folded_schedules_put_both_ends_on_one_device() -> None:
    vee = stage_plan((0,) * 16, (4, 1), "zb-v", 0.0)
    assert vee.counts.sum() == 16
    assert (vee.embedding[0], vee.head[0]) == (1, 1)
    dual = stage_plan((0,) * 16, (4, 1), "dualpipe", 0.0)
    assert dual.counts.tolist() == [[4.0]] * 4
    assert (dual.head[0], dual.head[-1], dual.copies) == (0.5, 0.5, 2.0)
