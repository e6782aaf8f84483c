"""Layers on pipeline devices."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supertwin.core.errors import InputError
from supertwin.machine.systems import load_system
from supertwin.model.load import load_model
from supertwin.training import Layout, TrainingCase, check, predict
from supertwin.training.setting import head_layers
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


def job(**changes: object) -> TrainingCase:
    case = TrainingCase(
        model=load_model("deepseek-v3"), system=load_system("dgx-h100:128"), layout=Layout(pp=4, dp=32, ep=32),
        micro_batch=1, global_batch=256, seq_len=4096,
    )  # fmt: skip
    return replace(case, **changes)  # type: ignore[arg-type]


def test_stated_stages_are_kept() -> None:
    plan = stage_plan((0,) * 61, (4, 1), "1f1b", 0.0, (15, 16, 16, 14))
    assert plan.counts[:, 0].tolist() == [15, 16, 16, 14]
    chunked = stage_plan((0,) * 61, (4, 2), "interleaved", 0.0, (15, 16, 16, 14))
    assert chunked.counts[:, 0].tolist() == [15, 16, 16, 14]
    assert chunked.chunk_layers == (8, 8, 8, 7, 7, 8, 8, 7)
    folded = stage_plan((0,) * 61, (4, 1), "zb-v", 0.0, (15, 16, 16, 14))
    assert folded.counts[:, 0].tolist() == [15, 16, 16, 14]


def test_a_lighter_last_stage_beats_a_heavier_one() -> None:
    """The last stage also has the head (and MTP): layers taken from it shorten the step."""
    light, heavy = (predict(job(stages=s)) for s in ((16, 16, 16, 13), (15, 15, 15, 16)))
    assert light.step_time_s < heavy.step_time_s


def test_stages_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(InputError, match=r"15 \+ 16 \+ 16 \+ 16 = 63 != 61 layers .* even split is 16,15,15,15"):
        check(job(stages=(15, 16, 16, 16)))
    with pytest.raises(InputError, match=r"are 2 numbers; expected 4 \(pp\(4\)\)"):
        check(job(stages=(30, 31)))


def test_policy_update_adds_forward_passes() -> None:
    """PPO and GRPO: old policy and reference each cost a forward pass, a third of forward and backward."""
    base = job(system=load_system("dgx-h100:64"), layout=Layout(tp=8, dp=8), model=load_model("llama3.1-70b"))
    plain, one, two = (predict(replace(base, logprob_passes=n)) for n in (0, 1, 2))
    first, second = one.step_time_s - plain.step_time_s, two.step_time_s - one.step_time_s
    assert first == pytest.approx(second)
    assert 0.25 < first / plain.step_time_s < 0.45
    assert predict(replace(base, task="rl")).step_time_s == two.step_time_s
    assert two.memory.parameters_bytes == 2.0 * one.memory.parameters_bytes  # the reference


def test_what_a_head_weighs() -> None:
    """Llama 3.1 8B: 128,256 x 4,096 against 218 M weights per layer; a long sequence makes layers heavier, so the head
    counts for less; by layers it is one."""
    case = job(system=load_system("dgx-h100:64"), layout=Layout(pp=4, dp=16), model=load_model("llama3.1-8b"))
    assert head_layers(case) == pytest.approx(128256 * 4096 / 218.1e6, rel=0.01)
    times = [head_layers(replace(case, balance="time", seq_len=length)) for length in (1, 4096, 65536)]
    assert times[0] == pytest.approx(head_layers(case), rel=0.01)
    assert times[0] > times[1] > times[2]
    again = replace(case, balance="time", seq_len=4096, recompute="full")
    assert head_layers(again) == pytest.approx(times[1] * 3 / 4)
    assert head_layers(replace(case, balance="layers")) == 1.0
